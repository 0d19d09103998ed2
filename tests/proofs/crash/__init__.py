"""Crash points: the process of the app ends before or after each call of a port in turn, and is started again.

`python -m tests.proofs.crash` runs scenarios over Azurite and the provider emulator. The first run of each has no
crash, and lists every point. Then the scenario runs once for each point, and the process ends there by `os._exit`.
There is no Functions host, because the host itself calls no port; `host.py` has its loop. The queue of that loop is
lost with the process, which is worse than anything the real queue does. By the clock of the trial the app is started again
fifteen seconds later. One tick must then let it take up every run that was under a lease. The clock, the keeper of leases,
the randomness, and the names and specs of agents are ports too. They have no points, because a call of them changes
nothing outside the process; what a keeper writes has points.
"""
