"""Providers without background mode: what a create has brought already, and what this process has seen of them."""

import logging
from dataclasses import dataclass, field

from shared.core.run import Run
from shared.log import log_event


@dataclass
class BackgroundModes:
    """What this process has seen of the background mode of its providers."""

    # Those that had a response at work when it was read.
    _working: set[str] = field(default_factory=set)
    # How many runs have had a provider that answered a create with a finished response.
    ignored: int = 0

    def works(self, provider: str) -> None:
        """Note that a provider has background mode."""
        self._working.add(provider)

    def working(self, provider: str) -> bool:
        return provider in self._working

    def note(self, before: Run, after: Run) -> None:
        """Log once for a run that its provider has ignored the background mode."""
        if after.background_ignored and not before.background_ignored:
            self.ignored += 1
            log_event(
                "provider.background_ignored",
                level=logging.WARNING,
                provider=after.provider,
                run_id=after.id,
                turn=after.turn,
            )
