"""The text files of the field: protocols, keys, score files, speaker-verification files.

Contract: a trial has a name; files are read whole, columns at a time; a bad line is an `InputError` that begins with
`file:line`. Imports the ground, `audio` and `eval_metrics`, and no PyTorch.

    text.py        text files as blocks of lines, unpacked and decoded
    tables.py      blank-separated columns, read whole, with line numbers in errors
    sniff.py       what shape a table has: separator, header, first row
    names.py       what a trial may be called
    protocol.py    lists and protocols, read and written
    keys.py        which trials are bona fide, in every layout of the field, and what else is known of each
    key_columns.py    which columns of a key hold names, labels and conditions
    score_columns.py  which columns of a table hold names and scores
    ratings.py     the MOS of named trials
    scores.py      score files: `NAME SCORE`, higher means bona fide
    recordings.py  the files that names stand for
    authors.py     the lists and keys that the authors publish
    sasv.py        files of ASVspoof 5, track 2
    asv.py         speaker verification: keys and scores for the t-DCF
"""
