"""Crash points: the app is ended before and after every call of a port in turn, and started again.

`python -m tests.proofs.crash` carries scenarios through over Azurite and the provider emulator, first undisturbed,
which shows every point there is, then once for each point, ended there with `os._exit`. The Functions host is
left out, and its loop stands in `host.py`: the host itself calls no port, and losing its queue with the process
is harsher than anything the real queue does. Clock and Randomness are ports too, as are the names and specs of
agents, but nothing outside the process could tell one side of such a call from the other.
"""
