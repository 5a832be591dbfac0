"""Scores of an evaluation set, and what they say.

Contract: scores are finite floats, higher means bona fide. Score files appear whole or not at all.
Imports every room below; only `score_set.py` imports PyTorch.

    score_set.py    a set scored into a file
    results.py      the table that ends a run
    intervals.py    how certain an EER is, and the difference between two
    percentile.py   the percentile bootstrap, until nothing uses it
    quantiles.py    the beta and Student's t distribution
    resampling.py   how resamples of a bootstrap are drawn
    calibration.py  score to log-likelihood ratio, probability and verdict
    breakdown.py    results by condition, speaker and MOS band; the worst errors
    tdcf.py         pooled min t-DCF of ASVspoof 2021, and the files of its coefficients
    sasv.py         ASVspoof 5, track 2: a-DCF and tandem EER
"""
