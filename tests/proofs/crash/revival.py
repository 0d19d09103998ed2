"""What the first tick after a crash does about the runs that the dead process was working on."""

from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from shared.core.calls import CallStatus
from shared.core.ids import all_shards
from shared.core.run import Run, Step
from shared.steps.context import Context
from tests.proofs.crash.host import Host

# So long after a kill each run that was worked on can be taken up again. Not read from the app, because it is promised.
PROMISED = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class Held:
    """A run that was under a lease when its process died, and whether one tick let a worker take it up."""

    run_id: str
    step: str
    leased_until: str
    taken_up: bool
    # How many characters of a text that a worker wrote were stored. None in other steps.
    written: int | None = None


@dataclass(frozen=True, slots=True)
class Revival:
    held: tuple[Held, ...] = ()
    # The calls that were running when the process died, each as its tool and its mark.
    interrupted: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def parse(cls, found: Any) -> "Revival":
        return cls(tuple(Held(**each) for each in found["held"]), frozenset(found["interrupted"]))

    def as_json(self) -> dict[str, Any]:
        return {"held": [asdict(each) for each in self.held], "interrupted": sorted(self.interrupted)}


async def revive(host: Host, now: datetime) -> Revival:
    """Let one tick pass, PROMISED after the crash."""
    runs = await _owed(host.unfused, now)
    held = [run for run in runs if _held(run, now - PROMISED)]
    await host.tick_once()
    return Revival(
        tuple([await _seen_again(host.unfused, run) for run in held]),
        frozenset(call for run in runs for call in _at_work(run)),
    )


async def _owed(context: Context, now: datetime) -> list[Run]:
    """Return every run that is owed a step."""
    views = [await context.shards.owed(shard, now) for shard in all_shards()]
    found = [await context.runs.read(owed.run_id) for view in views for owed in view.runs]
    return [stored.run for stored in found if stored]


def _held(run: Run, died: datetime) -> bool:
    return run.step.worked_on and run.lease is not None and run.lease.expires_at > died


async def _seen_again(context: Context, run: Run) -> Held:
    stored = await context.runs.read(run.id)
    assert stored is not None
    assert run.lease is not None
    until = run.lease.expires_at.isoformat()
    written = run.written if run.step is Step.GENERATE else None
    return Held(run.id, run.step.value, until, taken_up=stored.run.rev > run.rev, written=written)


def _at_work(run: Run) -> list[str]:
    return [
        f"{call.name} {call.call_id.removeprefix('call_')}"
        for call in run.calls
        if call.status is CallStatus.IN_PROGRESS
    ]
