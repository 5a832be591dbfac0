"""The corpora that `database/prepare.py` makes ready; a corpus is a function that fills a `Plan`.

search.py    what lies below some folders
plan.py      what is to be written and linked, what is missing, and the carrying out
asvspoof.py  ASVspoof 2019 LA, 2021 LA and DF, ASVspoof 5
wild.py      In-the-Wild and Fake-or-Real
authors.py   the authors' lists and keys, fetched
"""
