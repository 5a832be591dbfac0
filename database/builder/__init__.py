"""The parts of the mini corpus builder; `database/build_mini.py` is the command."""
