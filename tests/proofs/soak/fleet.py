"""Hosts that share one storage, are killed and started again, and how much memory each of their lives used."""

import statistics
import time
from dataclasses import dataclass, field
from datetime import timedelta

from dev import stack
from tests.e2e.site import Site
from tests.proofs.soak.logs import error_records
from tests.proofs.soak.memory import resident_mib

HOSTS = 2
# Memory for imports and first connections is not a leak.
_WARM_SECONDS = 10


@dataclass
class Life:
    """A host from its start to its end; `samples` are its age in seconds and its memory in MiB."""

    host: int
    born: float = field(default_factory=time.monotonic)
    ended: float | None = None
    samples: list[tuple[float, float]] = field(default_factory=list)

    @property
    def age(self) -> float:
        return time.monotonic() - self.born


@dataclass
class Fleet:
    site: Site
    lives: list[Life] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    kills: int = 0

    def start(self, host: int) -> None:
        """Start a host, or start it again."""
        site = self.site
        if host == len(site.hosts):
            site.add_host()
        else:
            site.hosts[host], site.bases[host] = stack.start_host(site.settings, app=site.app)
        self.lives.append(Life(host))

    def kill(self, host: int) -> None:
        life = self.alive()[host]
        self.site.hosts[host].kill()
        life.ended = time.monotonic()
        self.kills += 1
        self.errors += error_records(self.site.hosts[host].output)

    def stop(self) -> None:
        """Stop all hosts by a signal that they can handle, as a platform does."""
        for host in self.alive():
            self.errors += error_records(self.site.hosts[host].output)
        self.site.close()

    def alive(self) -> dict[int, Life]:
        return {life.host: life for life in self.lives if life.ended is None}

    def away_for(self, time_away: timedelta) -> list[int]:
        """Return the hosts that were killed at least this long ago."""
        alive, now = self.alive(), time.monotonic()
        latest = {life.host: life for life in self.lives}
        return [
            host
            for host, life in latest.items()
            if host not in alive and life.ended and now - life.ended >= time_away.total_seconds()
        ]

    def sample(self) -> None:
        """Measure the memory of the hosts that run."""
        for host, life in self.alive().items():
            life.samples.append((life.age, resident_mib(self.site.hosts[host].pid)))

    def growth(self, host: int) -> float:
        """Return by how many MiB a minute the host's memory grew after its start-up, over all of its lives."""
        points: list[tuple[float, float]] = []
        for life in self.lives:
            warm = [sample for sample in life.samples if sample[0] >= _WARM_SECONDS]
            if life.host == host and len(warm) > 1:
                age, size = (statistics.fmean(values) for values in zip(*warm, strict=True))
                points += [(one_age - age, one_size - size) for one_age, one_size in warm]
        if not points:
            return float("nan")
        return 60 * sum(age * size for age, size in points) / sum(age * age for age, _ in points)

    def most_memory(self, host: int) -> float:
        sizes = [size for life in self.lives if life.host == host for _, size in life.samples]
        return max(sizes, default=float("nan"))
