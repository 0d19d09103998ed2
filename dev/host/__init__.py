"""The local Functions host: Microsoft's Python worker library with a small host around it.

What it does not reproduce is listed in docs/local-host.md.
"""

from dev.host.program import main

__all__ = ["main"]
