"""Measures what a run costs, and compares it with the loops people write by hand: `python -m bench` prints a table."""
