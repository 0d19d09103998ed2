"""The auditor: observes clients, tools, provider and storage, and reports every broken promise."""

from collections.abc import Sequence

from shared.core.calls import ToolCall
from shared.core.pace import Schedule
from shared.core.response import CancelReply, CreateReply, ReadReply, Snapshot
from shared.core.run import Run, Step
from shared.ports.providers import ResponseRequest
from shared.ports.tables import Delete, Write
from shared.store.run_rows import read_run
from tests.proofs.simulation.audit_creates import CreateAuditor
from tests.proofs.simulation.audit_effects import EffectAuditor
from tests.proofs.simulation.audit_generated import GeneratedAuditor
from tests.proofs.simulation.audit_leases import LeaseAuditor
from tests.proofs.simulation.audit_polls import PollAuditor
from tests.proofs.simulation.audit_runs import RunAuditor
from tests.proofs.simulation.audit_waits import WaitAuditor
from tests.proofs.simulation.coverage import OPERATIONS, Coverage
from tests.proofs.simulation.evidence import Evidence
from tests.proofs.simulation.responses import Response
from tests.proofs.simulation.scheduler import Invocation, Scheduler
from tests.support.memory_table import MemoryTable


class Auditor:
    """Receives what happens at every port, and compares it."""

    def __init__(
        self, scheduler: Scheduler, schedules: tuple[Schedule, Schedule], coverage: Coverage
    ) -> None:
        self._scheduler, self._coverage = scheduler, coverage
        self.evidence = Evidence(lambda: scheduler.now)
        self.waits = WaitAuditor(self.evidence)
        self._creates = CreateAuditor(self.evidence)
        self._polls = PollAuditor(self.evidence)
        self.effects = EffectAuditor(self.evidence, schedules, self._creates, self.waits)
        self._responses: dict[str, Response] = {}
        self._leases = LeaseAuditor(self.evidence)
        self.generated = GeneratedAuditor(self.evidence, self._leases)
        self.generated.output_is_true = self.effects.output_is_true
        self._runs = RunAuditor(self.evidence, self._responses, self._leases)
        self.quotas = self._runs.quotas

    def honours_keys(self) -> None:
        """Note that the provider honours the keys of creates."""
        self.effects.keys_are_honoured = True

    def reads_content_of(self, table: MemoryTable) -> None:
        """Set the table that stores the texts of runs."""
        self._runs.texts.content = table
        self.waits.load = self.generated.load = self._runs.texts.load

    def looked(self, key: str, by: Invocation) -> None:
        if key.startswith("run|"):
            self._touch(key[4:], by)
            self.waits.looked(key[4:], by)
            if by.operation == "poll" and (late := self.evidence.late_slices.pop(key[4:], None)):
                late.end()

    def wrote(self, writes: Sequence[Write], by: Invocation) -> None:
        """Note what was written to the runs' table."""
        changed = list[tuple[Run | None, Run]]()
        for write in writes:
            key = write.key if isinstance(write, Delete) else write.row.key
            if key.startswith("delivery|"):
                self.evidence.deliver(key, stays=not isinstance(write, Delete))
            elif not isinstance(write, Delete) and key.startswith("owner|"):
                self.quotas.wrote(write.row.values)
            elif not isinstance(write, Delete) and key.startswith("run|"):
                run = read_run(write.row)
                self._touch(run.id, by)
                seen = self.evidence.runs.get(run.id)
                changed.append((seen.run if seen else None, run))
                self._runs.saw(run, by)
        self.generated.wrote(writes, changed, by)
        self.waits.wrote(writes, changed, by)

    def created(self, response: Response, requested_at: float) -> None:
        self._responses[response.id] = response
        self.effects.created(response, requested_at)

    def polled(self, response: Response, by: Invocation) -> None:
        self._touch(response.request.run_id, by)
        self.effects.polled(response)
        self._polls.polled(response, by)

    def replied(self, response: Response, reply: ReadReply | CancelReply, by: Invocation) -> None:
        self.effects.replied(response, reply, by)
        self._polls.answered(response, reply, by)

    def read_slowly(self, response: Response, within: float, by: Invocation) -> None:
        self._polls.read_slowly(response, within, by)

    def cancels(self, response: Response, by: Invocation) -> None:
        self._polls.cancels(response, by)

    def create_begins(self, request: ResponseRequest, by: Invocation) -> None:
        self._leases.begins(request.run_id, Step.CREATE, by)

    def tool_begins(self, call: ToolCall, by: Invocation) -> None:
        self._leases.begins(call.idempotency_key.partition("-")[0], Step.TOOLS, by)

    def requested(self, request: ResponseRequest, at: float, by: Invocation) -> None:
        """Note a create that reaches the provider. It was sent at `at`."""
        self._creates.requested(request, at, by)

    def answered_create(self, request: ResponseRequest, reply: CreateReply, by: Invocation) -> None:
        seen = self.evidence.runs.get(request.run_id)
        self._creates.answered(request, reply, by, seen.run.responses if seen else ())
        response = self._responses.get(reply.response_id) if isinstance(reply, Snapshot) else None
        if isinstance(reply, Snapshot) and response and response.request.run_id == request.run_id:
            response.at_once.append(reply.status.finished)
            if reply.status.finished:
                # It may be the answer, when it cannot be read later.
                self.effects.replied(response, reply, by)

    def tool_ran(self, request: ToolCall, by: Invocation) -> str:
        return self.effects.tool_ran(request, by)

    def _touch(self, run_id: str, by: Invocation) -> None:
        """Note that `by` uses this run, at the same time as all others that use it."""
        if run_id in by.touched:
            return
        by.touched.add(run_id)
        if by.operation in OPERATIONS:
            for other in self._scheduler.alive:
                if other is not by and run_id in other.touched and other.operation in OPERATIONS:
                    self._coverage.met(by.operation, other.operation)
