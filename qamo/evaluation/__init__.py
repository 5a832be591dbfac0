"""Scores of an evaluation set, and what they say.

Contract: scores are finite floats, higher means bona fide. Score files appear whole or not at all.
Imports every room below; only `score_set.py` imports PyTorch.

    score_set.py    a set scored into a file
    part_files.py   what is kept while a set is scored
    results.py      the table that ends a run
    calibration.py  score to log-likelihood ratio, probability and verdict
    breakdown.py    results by condition, speaker and MOS band; the worst errors
"""
