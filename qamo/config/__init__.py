"""Every setting of the program: its type, its default, its meaning.

Contract: a `Config` is frozen and strict. Precedence, lowest first: the defaults, a YAML file, a preset, the flags of
the published code, `section.key=value`. An unknown key is an `InputError` that names its nearest neighbour.
Imports the ground only, so that every command can read its settings before PyTorch is loaded.

    schema.py    the sections
"""
