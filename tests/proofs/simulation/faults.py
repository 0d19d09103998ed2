"""The kinds of faults, how often each happens in a seed, and how often it happened."""

from collections import Counter
from collections.abc import Mapping
from random import Random

from shared.core.queues import Queue

# By the occasion at which a fault is drawn: the kinds, each with its probability in the seeds that have it.
OCCASIONS: Mapping[str, Mapping[str, float]] = {
    # Around every request to a table.
    "storage": {
        "storage_refused": 0.02,
        "storage_slow": 0.01,
    },
    # The same, for writes. With "reply_lost" the write takes effect and its caller gets an error.
    "storage_write": {
        "storage_refused": 0.02,
        "reply_lost": 0.04,
        "outage": 0.05,
        "conflict_with_itself": 0.04,
        "storage_slow": 0.04,
    },
    # The same, for the write that saves a tool's output.
    "checkpoint": {
        "storage_refused": 0.02,
        "reply_lost": 0.04,
        "outage": 0.2,
        "conflict_with_itself": 0.04,
        "storage_slow": 0.04,
    },
    # Around every call of any port.
    "process": {
        "killed_before": 0.01,
        "killed_after": 0.01,
        "host_killed": 0.002,
        "frozen_before": 0.008,
        "frozen_after": 0.008,
    },
    # A renewal of a lease.
    "renewal": {"renewal_late": 0.15},
    # When an invocation stands still.
    "still": {"lease_renewed_meanwhile": 0.4},
    # After a worker has read the tools of a turn, before it claims them.
    "claim": {"claim_late": 0.5},
    "create": {
        "throttled": 0.1,
        "create_reply_lost": 0.1,
        "create_times_out": 0.1,
        "background_ignored": 0.1,
        "create_unsure": 0.05,
        "create_stalls": 0.08,
        "chain_broken": 0.3,
        "create_refused": 0.06,
        "access_denied": 0.05,
        "quota_exhausted": 0.04,
        "key_refused": 0.1,
        "key_in_use": 0.1,
        "create_unusable": 0.1,
        "create_of_another": 0.05,
        "earlier_response_again": 0.05,
    },
    "read": {
        "read_unavailable": 0.1,
        "retry_after": 0.1,
        "not_found_yet": 0.08,
        "forgotten": 0.04,
        "read_of_another": 0.06,
    },
    "slice": {
        "slice_unavailable": 0.1,
        "stream_refused": 0.05,
        "stream_cut": 0.15,
        "stream_gap": 0.05,
        "stream_stalled": 0.1,
        "slice_late": 0.3,
        "slice_of_another": 0.05,
    },
    "cancel": {
        "cancel_unavailable": 0.4,
        "cancel_refused": 0.3,
        "cancel_not_found": 0.2,
        "cancel_of_another": 0.1,
    },
    "delete": {"delete_unavailable": 0.2, "delete_refused": 0.1},
    "response": {
        "late": 0.15,
        "contradicts_itself": 0.3,
        "ends_badly": 0.25,
        "ends_by_itself": 0.05,
        "slow": 0.15,
    },
    # What the model writes, besides an answer or function calls.
    "shape": {"commentary": 0.15, "only_commentary": 0.1, "refusal": 0.1, "unanswerable": 0.1},
    # The same, when it goes on with the response of an earlier run: few do, and an answer that comes next is rare.
    "shape_of_next": {"commentary": 0.1, "only_commentary": 0.1, "refusal": 0.1, "unanswerable": 0.4},
    # How the stream of a response and the finished response differ.
    "streamed": {"stream_strays": 0.2, "stream_end_empty": 0.15, "output_empty": 0.1, "call_lost": 0.15},
    "tool": {"tool_failed": 0.1, "tool_slow": 0.1},
    # Whether calls have to wait. Only the process can fail here: whatever the author's functions do, there is a result.
    "decision": {},
    # On each queue.
    **{
        f"message to {queue}": {"message_lost": 0.1, "message_doubled": 0.15, "message_late": 0.1}
        for queue in Queue
    },
    "tick": {"tick_missed": 0.2, "tick_doubled": 0.2},
    "client": {"client_gone": 0.15},
    # Once a seed.
    "seed": {
        "broken_row": 0.1,
        "skewed_clocks": 0.3,
        "wrong_clock": 0.1,
        "two_timers": 0.4,
        "timer_dead": 0.1,
    },
}
KINDS = tuple(dict.fromkeys(kind for kinds in OCCASIONS.values() for kind in kinds))
# At a provider without background mode: before its stream, and in it.
CHAT_OCCASIONS: Mapping[str, Mapping[str, float]] = {
    "chat": {"chat_refused": 0.03, "chat_throttled": 0.1, "chat_unavailable": 0.08},
    "chat stream": {"chat_cut": 0.25, "chat_not_ended": 0.06, "chat_stalls": 0.06},
    "chat piece": {"chat_overtaken": 0.03},
}
CHAT_KINDS = tuple(kind for kinds in CHAT_OCCASIONS.values() for kind in kinds)
# What follows from a property of a seed's provider, without a draw: it honours the keys of creates, and it refuses to
# cancel what has finished.
PROPERTIES = ("key_repeated", "finished_not_cancelled")

# The share of seeds without faults: they show what must be true when nothing fails.
_QUIET_SEEDS = 0.08


class Faults:
    """Draws faults. Each seed has only some kinds, so that no kind hides the effect of another."""

    def __init__(self, random: Random, occasions: Mapping[str, Mapping[str, float]] = OCCASIONS) -> None:
        self._random = random
        known = tuple(dict.fromkeys(kind for kinds in occasions.values() for kind in kinds))
        self.counts: Counter[str] = Counter()
        self.on = True
        quiet = random.random() < _QUIET_SEEDS
        share, strength = random.choice((0.2, 0.5, 0.8)), random.choice((0.5, 1.0, 2.0, 4.0))
        factors = {} if quiet else {kind: strength for kind in known if random.random() < share}
        self._rates = {
            occasion: tuple((kind, rate * factors[kind]) for kind, rate in kinds.items() if kind in factors)
            for occasion, kinds in occasions.items()
        }

    @classmethod
    def of_chats(cls, seed: int, counts: Counter[str]) -> "Faults":
        """Return those of a provider without background mode. Drawn apart, so that the other seeds stay as they are."""
        faults = cls(Random(f"faults of chats of {seed}"), CHAT_OCCASIONS)
        faults.counts = counts
        return faults

    def note(self, kind: str) -> None:
        """Count what follows from a property."""
        self.counts[kind] += 1

    def draw(self, occasion: str) -> str | None:
        """Return the fault that happens now, or None."""
        rates = self._rates[occasion]
        if not rates or not self.on:
            return None
        drawn = self._random.random()
        for kind, rate in rates:
            if drawn < rate:
                self.counts[kind] += 1
                return kind
            drawn -= rate
        return None
