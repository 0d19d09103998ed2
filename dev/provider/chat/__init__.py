"""Chat completions: the same models and scripts as those of responses, written while a connection is open."""
