"""Scores of an evaluation set, and what they say.

Contract: scores are finite floats, higher means bona fide. Score files appear whole or not at all.
Imports every room below. Only `sets.py`, `score_set.py`, `scoring_pass.py` and `check.py` import PyTorch.

    sets.py         the sets that a run scores: lists, recordings, keys
    score_set.py    a set scored into a file
    scoring_pass.py the forward pass of scoring, in pieces that the memory holds
    part_files.py   what is kept while a set is scored
    check.py        dry run: all inputs looked at, nothing written
    results.py      the end of a run: calibration, results, the table of them
    bands.py        intervals of what is no EER: bands of DET curves, shares of trials, rank correlations
    intervals.py    how certain an EER is, and the difference between two
    seeds.py        systems trained several times: mean, deviation, difference
    quantiles.py    the beta and Student's t distribution
    resampling.py   how resamples of a bootstrap are drawn
    calibration.py  score to log-likelihood ratio, probability and verdict
    regression.py   logistic regression of scores, for calibration and fusion
    breakdown.py    results by condition, speaker and MOS band; the worst errors
    metrics.py      every figure of a set, and of several sets together
    detection.py    decisions (APCER, BPCER, accuracy), AUC, ROCCH-EER, PAV
    leakage.py      trials that stand both in the fitted and in the judged data
    asvspoof5.py    ASVspoof 5, both tracks, by attack and codec
    tdcf.py         pooled min t-DCF of ASVspoof 2021, and the files of its coefficients
    c012.py         the pickles of these files, read without unpickling
    sasv.py         ASVspoof 5, track 2: a-DCF and tandem EER
"""
