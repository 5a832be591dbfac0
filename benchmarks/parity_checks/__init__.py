"""Checks against the golden figures of the published code, by what they are of; benchmarks/parity.py prints them."""
