"""Small quotas, in a share of the seeds."""

import random as randoms
from dataclasses import replace

from shared.core.ids import home_shard
from shared.core.quota import Limits
from shared.ports.tables import Table
from shared.store.quotas import QuotaStore
from tests.proofs.simulation.clients import OWNERS
from tests.proofs.simulation.triggers import Triggers

# In what share of the seeds there are quotas, and in what share of these only from some time on.
_LIMITED, _LATER = 0.25, 0.4
_LIMITS = (
    Limits(pending_runs=1), Limits(pending_runs=2), Limits(starts_per_minute=1), Limits(starts_per_minute=2),
    Limits(pending_runs=2, starts_per_minute=2), Limits(pending_runs=1, starts_per_minute=3),
)  # fmt: skip


def limit_owners(seed: int, triggers: Triggers, runs: Table) -> None:
    """Let quotas begin in some seeds: at once, or when there are sessions that began without them."""
    # Drawn apart, so that the other seeds stay as they are.
    random = randoms.Random(f"quotas of {seed}")
    if random.random() >= _LIMITED:
        return
    limits, scheduler = random.choice(_LIMITS), triggers.gate.scheduler
    # An owner's sessions begin in his own shard then.
    triggers.shards = tuple(sorted({*triggers.shards, *map(home_shard, OWNERS)}))

    def begin() -> None:
        quotas = QuotaStore(runs, triggers.context.randomness, limits)
        triggers.context = replace(triggers.context, quotas=quotas)
        triggers.auditor.quotas.limits, triggers.auditor.quotas.since = limits, scheduler.now

    if random.random() < _LATER:
        scheduler.after(random.uniform(5, 25), begin)
    else:
        begin()
