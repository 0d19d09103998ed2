"""What a run costs, measured: `python -m bench` prints a table. Beside it stand the loops people write by hand."""
