"""Every setting of the program: its type, its default, its meaning.

Contract: a `Config` is frozen and strict. Precedence, lowest first: the defaults, a YAML file, a preset, the flags of
the published code, `section.key=value`. An unknown key is an `InputError` that names its nearest neighbour. Each key
has a sentence, from which config.yaml and `--help` are written, and a role, which says what may change when.
Imports the ground only, so that every command can read its settings before PyTorch is loaded.

    keys.py       what a key is: default, sentence, role, checks
    schema.py     the sections: data, train, score, eval, run
    parts.py      the sections of front ends, back ends and heads
    catalogue.py  where the evaluation sets of the field lie
    load.py       YAML and overrides to a Config, and back to YAML with comments; renamed keys
    effect.py     settings that nothing would read
    yaml_text.py  YAML as a person may write it, or may not
    flags.py      main.py's flags as keys of the config; presets
"""
