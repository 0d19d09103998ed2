"""Bugs in the log of runs, in their streams and in the outbox, each as a replacement in the source."""

from tests.proofs.mutants.bug import Bug

_CREATING = "shared/core/life/creating.py"
_ENDING = "shared/core/life/ending.py"
_POLLING = "shared/core/life/polling.py"
_DELIVER = "shared/steps/deliver.py"
_LOG = "shared/store/log.py"
_RUNS = "shared/store/runs.py"

LOG_BUGS = (
    Bug(
        "a slice is stored although it does not continue the stored text",
        _POLLING,
        "or run.continuation != expected:",
        "or not run.awaits(received.response_id):",
    ),
    Bug(
        "the rest of a turn is logged from its beginning",
        _POLLING,
        "items.finish(event.outline, written=run.written,",
        "items.finish(event.outline, written=0,",
    ),
    Bug(
        "streamed text that differs from the answer stays",
        _POLLING,
        "    if not event.agrees:",
        "    if False:",
    ),
    Bug(
        "the text of an unfinished turn stays",
        _ENDING,
        "    if unfinished and (run.written or run.turns):",
        "    if unfinished and run.turns:",
    ),
    Bug("the next turn goes on counting the text of the last", _CREATING, "        written=0,\n", ""),
    Bug(
        "the texts of two slices get the same name",
        "shared/steps/slices.py",
        'f"slice-{run.rev:08d}-{context.token()}"',
        'f"slice-{run.rev:08d}"',
        first=4300,
    ),
    Bug(
        "a late response is not put into the outbox",
        _RUNS,
        "            *delivery_writes(deliveries, tx),\n",
        "",
    ),
    Bug(
        "a delivery is removed before it is made",
        _DELIVER,
        "    delivery = claimed.delivery\n",
        "    delivery = claimed.delivery\n    await context.outbox.remove(claimed)\n",
    ),
    Bug(
        "a delivery that could not be made is given up",
        _DELIVER,
        "    if age < _patience(reply):",
        "    if isinstance(reply, Delivery):",
    ),
    Bug(
        "a response that is not found yet is taken for stopped",
        _DELIVER,
        "            return MISSING_GRACE\n",
        "            return timedelta()\n",
    ),
    Bug(
        "a refused cancellation is taken for done",
        _DELIVER,
        "        case Refused() | NotNow():\n",
        "        case Refused():\n            return timedelta()\n        case NotNow():\n",
    ),
    Bug(
        "the timer does not find what the outbox holds",
        "shared/store/rows.py",
        'return TICK_KEY, f"pending~{time_text(now)}}}"',
        'return TICK_KEY, "pending}"',
    ),
    Bug(
        "an answer is compared with only a part of the streamed text",
        _POLLING,
        "    if event.compared != run.continuation:",
        "    if event.compared is None and run.continuation is None:",
        first=14200,
    ),
    Bug(
        "an item starts again with each slice",
        "shared/core/life/items.py",
        "        if index in self.open or index < self.started or self.started",
        "        if self.started",
    ),
    Bug("the items of a turn that has no answer stay open", _ENDING, "    items.close()\n", ""),
    Bug(
        "a row of the log is named after its first entry",
        _LOG,
        "rows.log_key(run.id, run.entries)",
        "rows.log_key(run.id, run.entries - len(entries) + 1)",
    ),
    Bug(
        "each row of the log numbers its stream anew",
        _LOG,
        "run.stream_events - sum(entry.stream_events for entry in entries)",
        "0",
    ),
)
