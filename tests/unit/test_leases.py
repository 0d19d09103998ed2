"""Leases that are renewed while their work goes on."""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.core.calls import CallStatus, ToolResult
from shared.core.life.leasing import LEASE
from shared.core.response import RESPONSE_SLOW
from shared.core.run import Lease, Run, RunStatus, Step
from shared.errors import StorageUnavailable
from shared.ports.tables import Merge
from shared.steps.lease import MARGIN
from shared.steps.messages import poll_message
from shared.steps.work import work
from shared.store import rows
from shared.store.runs import RunStore
from shared.usecases.cancel import cancel
from shared.usecases.delete import delete_run
from tests.support.fakes import CountingTable, FakeProvider, answer, asks, later
from tests.support.log_lines import logged
from tests.support.runs import NOW
from tests.support.world import CALLER, World


class SlowProvider(FakeProvider):
    """A provider that takes its time, while the keeper renews the newest lease as it does in its thread."""

    def __init__(self) -> None:
        super().__init__()
        self.world: World | None = None
        self.takes = 0
        # Whether the whole process stands still, and the keeper with it.
        self.still = False
        # The seconds since the request was sent at which the keeper renewed the lease.
        self.renewed_at: list[int] = []
        self.lost_at: int | None = None

    async def create(self, request):
        await self.pass_()
        return await super().create(request)

    async def read(self, response_id, **options):
        await self.pass_()
        return await super().read(response_id, **options)

    async def pass_(self) -> None:
        kept, seconds = self.world.keeper.kept[-1], self.takes
        self.takes, self.renewed_at = 0, []
        if self.still:
            self.world.clock.pass_(seconds)
            return
        due = kept.first.total_seconds()
        for second in range(1, seconds + 1):
            self.world.clock.pass_(1)
            while due is not None and due <= second:
                writes = self.world.table.counts["write"]
                pause = await kept.renew(self.world.table)
                if self.world.table.counts["write"] > writes:
                    self.renewed_at.append(second)
                self.lost_at = second if pause is None else None
                due = None if pause is None else due + pause.total_seconds()


@pytest.fixture
def slow() -> World:
    provider = SlowProvider()
    provider.world = World(provider)
    return provider.world


@pytest.mark.parametrize(
    ("seconds", "renewed_at"),
    [(1, []), (7, []), (8, [8]), (11, [8]), (12, [8, 12]), (25, [8, 12, 16, 20, 24])],
)
async def test_a_lease_is_renewed_first_after_eight_seconds_and_then_every_four(slow, seconds, renewed_at):
    slow.provider.takes = seconds
    run = await slow.start()
    assert slow.provider.renewed_at == renewed_at
    # A start is two transactions. Each renewal is one more, and nothing has to be read again because of it.
    assert slow.table.taken() == {"write": 2 + len(renewed_at)}
    assert (await slow.run(run.id)).responses == ("resp_1",)
    assert slow.keeper.kept[-1].over


async def test_a_renewal_writes_only_what_it_changes(slow):
    written = []
    write = slow.table.write

    async def noted(partition, writes):
        written.append(writes)
        return await write(partition, writes)

    slow.table.write = noted
    slow.provider.takes = 9
    run = await slow.start()
    [renewal] = [writes for writes in written if isinstance(writes[0], Merge)]
    assert [each.row.key for each in renewal] == [rows.run_key(run.id), rows.owed_key(run.id)]
    assert [set(each.row.values) for each in renewal] == [{"lease_expires_at", "due", "renewal"}, {"due"}]


async def test_clients_do_not_see_a_renewal(slow):
    seen = []
    renew = slow.context.runs.__class__.renew

    async def noted(store, before, after):
        seen.append((before.run, after))
        return await renew(store, before, after)

    slow.provider.takes = 9
    slow.context.runs.__class__.renew = noted
    try:
        await slow.start()
    finally:
        slow.context.runs.__class__.renew = renew
    [(before, after)] = seen
    assert replace(after, lease=before.lease, due=before.due) == before


async def test_a_lease_ends_with_the_longest_time_of_its_work(slow):
    slow.provider.takes = 600
    await slow.start()
    longest = (slow.context.provider_timeout + MARGIN).total_seconds()
    assert slow.provider.renewed_at[-1] < slow.provider.lost_at == longest


async def test_work_ends_a_minute_before_its_function(slow):
    slow = World(slow.provider, function_timeout=timedelta(seconds=90))
    slow.provider.world = slow
    slow.provider.takes = 600
    await slow.start()
    assert slow.provider.lost_at == 30


async def test_a_process_that_stood_still_does_not_renew_its_lease(slow):
    slow.provider.takes, slow.provider.still = 20, True
    await slow.start()
    kept, before = slow.keeper.kept[-1], dict(slow.table.counts)
    assert await kept.renew(slow.table) is None
    assert slow.table.counts == before


def called(world: World, *names: str) -> None:
    world.provider.state = {"resp_1": asks("resp_1", *names), "resp_2": answer("resp_2")}


async def test_no_tool_begins_after_a_standstill(world):
    run = await world.start()
    called(world, "pay", "pay", "look_up")
    [run_id] = await world.tick()
    world.agents.during = lambda _: world.clock.pass_(11)
    await work(world.context, run_id)
    assert list(world.agents.runs) == ["call_resp_1_0"]
    # The next worker reports what it cannot know, and runs again what may be repeated.
    world.agents.during = None
    await world.until_terminal(run.id)
    statuses = [call.status for call in (await world.run(run.id)).calls]
    assert statuses == [CallStatus.COMPLETED, CallStatus.UNKNOWN, CallStatus.COMPLETED]
    assert dict(world.agents.runs) == {"call_resp_1_0": 1, "call_resp_1_2": 1}


@pytest.mark.parametrize("seconds", [11, 14, 16, 60])
async def test_no_create_is_sent_with_too_little_time_left(world, seconds):
    run = await world.start()
    called(world, "pay")
    [run_id] = await world.tick()
    load = world.context.content.load

    async def late(*args):
        world.clock.pass_(seconds)
        return await load(*args)

    world.agents.during = lambda _: setattr(world.context.content, "load", late)
    results = world.context.runs.results

    async def late_results(*args):
        world.clock.pass_(seconds)
        return await results(*args)

    world.context.runs.results = late_results
    await work(world.context, run_id)
    assert (len(world.provider.creates), (await world.run(run.id)).step) == (1, Step.CREATE)


async def test_work_whose_run_was_taken_stops(slow):
    run = await slow.start()
    called(slow, "pay", "look_up")
    [run_id] = await slow.tick()

    async def deleted_meanwhile(_agent, calls, permit):
        assert permit.given()
        await delete_run(slow.context, CALLER, run_id)
        slow.clock.pass_(8)
        [kept] = [each for each in slow.keeper.kept if not each.over]
        assert await kept.renew(slow.table) is None
        assert not permit.given()
        return
        yield calls

    slow.agents.run_tools = deleted_meanwhile
    await work(slow.context, run_id)
    assert (await slow.run(run.id)).status is RunStatus.DELETED


async def test_a_renewal_never_prolongs_the_lease_of_another_worker(world):
    run = await world.start()
    called(world, "look_up")
    [run_id] = await world.tick()

    async def taken_over(_agent, calls, permit):
        world.agents.run_tools = run_tools
        first = world.keeper.kept[-1]
        world.clock.pass_(8)
        other = replace(world.context, clock=Ahead(world.clock, 10))
        taken = await world.context.runs.read(run_id)
        assert await work(other, run_id) == ()
        before = await world.context.runs.read(run_id)
        assert before.run.rev > taken.run.rev
        assert await first.renew(world.table) is None
        assert (await world.context.runs.read(run_id)).run == before.run
        return
        yield calls, permit

    run_tools, world.agents.run_tools = world.agents.run_tools, taken_over
    await work(world.context, run_id)
    assert (await world.until_terminal(run.id)).status is RunStatus.COMPLETED


class Ahead:
    """The clock of a host that is ahead of another."""

    correction = timedelta()

    def __init__(self, clock, seconds: float) -> None:
        self._clock, self._ahead = clock, timedelta(seconds=seconds)

    def now(self):
        return self._clock.now() + self._ahead


class Unreachable(CountingTable):
    """A table whose next writes fail, before or after they take effect."""

    fails = 0
    after = False

    async def write(self, *args):
        if not self.fails:
            return await super().write(*args)
        self.fails -= 1
        if self.after:
            await super().write(*args)
        raise StorageUnavailable("no answer")

    async def get(self, *args):
        if self.fails:
            raise StorageUnavailable("no answer")
        return await super().get(*args)


@pytest.fixture
def shaky(slow) -> World:
    table = Unreachable()
    table._partitions = slow.table._partitions
    slow.table = table
    return slow


@pytest.mark.parametrize("takes_effect", [False, True])
async def test_a_renewal_that_failed_is_tried_again_after_a_second(shaky, takes_effect):
    shaky.provider.takes = 13
    shaky.table.fails, shaky.table.after = 2, takes_effect
    run = await shaky.start()
    assert (await shaky.run(run.id)).responses == ("resp_1",)
    assert shaky.provider.lost_at is None
    assert shaky.table.fails == 0


async def test_a_lease_that_cannot_be_renewed_is_lost_when_it_ends(shaky):
    shaky.provider.takes = 30
    shaky.table.fails = 1000
    run = await shaky.start()
    shaky.table.fails = 0
    assert shaky.provider.lost_at == 15
    # Nobody else has taken the run, so the response that was created is adopted all the same.
    assert (await shaky.run(run.id)).responses == ("resp_1",)


async def test_a_renewal_goes_on_when_a_client_has_changed_the_run(slow):
    create = slow.provider.create

    async def cancelled_meanwhile(request):
        await cancel(slow.context, CALLER, request.run_id)
        return await create(request)

    slow.provider.create, slow.provider.takes = cancelled_meanwhile, 9
    run = await slow.start()
    assert slow.provider.renewed_at == [8]
    assert (await slow.run(run.id)).responses == ("resp_1",)
    await slow.drive()
    assert slow.provider.cancels == ["resp_1"]


async def test_a_slow_poll_by_a_worker_is_renewed_too(slow):
    run = await slow.start()
    slow.provider.state["resp_1"] = later("too slow", code=RESPONSE_SLOW)
    for _ in range(4):
        await slow.drive()
    assert (await slow.run(run.id)).waiting.error.code == RESPONSE_SLOW
    slow.clock.pass_(60)
    slow.provider.state["resp_1"], slow.provider.takes = answer("resp_1"), 20
    await slow.work(poll_message(run.id))
    assert slow.provider.renewed_at == [8, 12, 16, 20]
    assert (await slow.run(run.id)).status is RunStatus.COMPLETED


async def keeps_on_renewing(world: World, seconds: int) -> None:
    """Let time pass in which only the keeper works, as when a tool blocks the event loop."""
    [kept] = [each for each in world.keeper.kept if not each.over]
    for _ in range(seconds):
        world.clock.pass_(1)
        assert await kept.renew(world.table) is not None


async def test_a_reply_that_comes_late_does_not_undo_what_was_renewed_meanwhile(world):
    """The event loop is blocked between a transition and its reply."""
    run = await world.start()
    called(world, "pay", "look_up")
    [run_id] = await world.tick()
    commit, permits = world.context.runs.commit, []

    async def slow_reply(before, after, *args, **options):
        stored = await commit(before, after, *args, **options)
        if after.turn == 2:
            world.context.runs.commit = commit
            await keeps_on_renewing(world, 40)
        return stored

    async def permitted(request):
        permits.append(world.keeper.kept[-1].renewal.given())
        return await create(request)

    create, world.provider.create = world.provider.create, permitted
    world.context.runs.commit = slow_reply
    await work(world.context, run_id)
    assert permits == [True]
    assert (await world.until_terminal(run.id)).status is RunStatus.COMPLETED


async def test_a_transition_that_is_late_does_not_shorten_a_lease_that_was_renewed(world):
    """The event loop is blocked before a transition is written, so it conflicts with renewals."""
    await world.start()
    called(world, "look_up")
    [run_id] = await world.tick()
    commit, permits = world.context.runs.commit, []

    async def late(before, after, *args, **options):
        if after.turn == 2:
            world.context.runs.commit = commit
            await keeps_on_renewing(world, 40)
        return await commit(before, after, *args, **options)

    async def permitted(request):
        permits.append(world.keeper.kept[-1].renewal.given())
        return await create(request)

    create, world.provider.create = world.provider.create, permitted
    world.context.runs.commit = late
    await work(world.context, run_id)
    assert permits == [True]


async def test_a_lease_that_the_work_has_ended_is_not_reported_as_lost(slow, caplog):
    run = await slow.start()
    called(slow, "look_up")
    [run_id] = await slow.tick()
    commit, paused = slow.context.runs.commit, []

    async def renewed_meanwhile(before, after, *args, **options):
        stored = await commit(before, after, *args, **options)
        if after.lease is None:
            # The keeper conflicts with the transition, whose reply is still on its way.
            slow.clock.pass_(8)
            paused.append(await slow.keeper.kept[-1].renew(slow.table))
        return stored

    slow.context.runs.commit = renewed_meanwhile
    await work(slow.context, run_id)
    assert paused == [None]
    assert (await slow.run(run.id)).step is Step.POLL
    assert "lease.lost" not in caplog.text


async def test_a_lease_whose_loss_a_transition_shows_is_reported_once(world, caplog):
    await world.start()
    called(world, "look_up", "look_up")
    [run_id] = await world.tick()
    deleted = []

    async def delete_meanwhile(_call):
        if not deleted:
            deleted.append(await delete_run(world.context, CALLER, run_id))

    run_tools = world.agents.run_tools

    async def deleted_meanwhile(*args):
        async for result in run_tools(*args):
            await delete_meanwhile(result)
            yield result

    world.agents.run_tools = deleted_meanwhile
    await work(world.context, run_id)
    assert [line.fields["taken"] for line in logged(caplog) if line.event == "lease.lost"] == [True]


async def test_tools_are_stopped_as_soon_as_a_transition_shows_the_loss(world):
    await world.start()
    called(world, "look_up", "look_up")
    [run_id] = await world.tick()
    went_on = []

    async def deleted_meanwhile(_agent, calls, _permit):
        await delete_run(world.context, CALLER, run_id)
        for call in calls:
            yield ToolResult(call.call_id, CallStatus.COMPLETED, "found")
            went_on.append(call.call_id)

    world.agents.run_tools = deleted_meanwhile
    await work(world.context, run_id)
    assert went_on == []


async def test_a_clock_that_was_set_back_does_not_keep_a_lease_from_being_renewed(slow):
    run = await slow.start()
    called(slow, "look_up")
    [run_id] = await slow.tick()
    true = slow.clock.at
    read = CountingTable.get

    async def corrected(table, *args):
        slow.clock.at = max(slow.clock.at, true + timedelta(seconds=8))
        return await read(table, *args)

    async def set_back(_agent, calls, permit):
        kept = slow.keeper.kept[-1]
        assert kept.first == timedelta(seconds=8)
        slow.clock.at = true - timedelta(seconds=600)
        slow.table.get = corrected.__get__(slow.table)
        assert await kept.renew(slow.table) == timedelta(seconds=4)
        renewed = (await slow.context.runs.read(run_id)).run.lease
        assert renewed.expires_at == true + timedelta(seconds=20)
        return
        yield calls, permit

    slow.agents.run_tools = set_back
    await work(slow.context, run_id)
    assert run.id == run_id


class LostReply(CountingTable):
    """A table that loses the reply to the next write. Another process writes before the row is read again."""

    meanwhile = None

    async def write(self, *args):
        etag = await super().write(*args)
        if self.meanwhile is None:
            return etag
        meanwhile, self.meanwhile = self.meanwhile, None
        await meanwhile()
        raise StorageUnavailable("no answer")


async def test_a_transition_whose_reply_is_lost_knows_of_a_renewal_since_then(world):
    run = await world.start()
    table = LostReply()
    table._partitions = world.table._partitions
    runs = RunStore(table, world.context.randomness)
    stored = await runs.read(run.id)
    leased = await runs.commit(stored, leased_until(stored.run, 15))

    async def renewed():
        current = await runs.read(run.id)
        await runs.renew(current, leased_until(current.run, 20, rev=current.run.rev))

    table.meanwhile = renewed
    again = await runs.commit(leased, leased_until(leased.run, 15))
    assert again.run == leased_until(leased.run, 20)
    assert again == await runs.read(run.id)


async def test_work_that_fails_closes_its_tools_before_it_gives_up_its_lease(world):
    await world.start()
    called(world, "look_up", "look_up")
    [run_id] = await world.tick()
    closed = []

    async def noted(*args):
        try:
            async for result in run_tools(*args):
                yield result
        finally:
            closed.append(world.keeper.kept[-1].over)

    async def broken(*_args, **_options):
        raise Killed

    run_tools, world.agents.run_tools = world.agents.run_tools, noted
    world.context.content.save = broken
    # What has failed is kept, so nothing is closed only because nobody refers to it any more.
    with pytest.raises(Killed) as _kept:
        await work(world.context, run_id)
    assert closed == [False]


def leased_until(run: Run, seconds: int, *, rev: int | None = None) -> Run:
    until = NOW + timedelta(seconds=seconds)
    return replace(
        run, lease=Lease("lease", until), due=until, rev=run.rev + 1 if rev is None else rev, step=Step.CREATE
    )


class Killed(BaseException):
    """The process ends here."""


def kill(*_args: object, **_options: object) -> None:
    raise Killed


async def killed_while(world: World, step: str, run_id: str) -> None:
    """Let a worker end in the middle of a step."""
    match step:
        case "create":
            world.provider.create_replies = [Killed()]
            await work(world.context, run_id)
        case "tools":
            world.agents.during = kill
            await work(world.context, run_id)
        case "cancel":
            world.provider.cancel = kill
            await cancel(world.context, CALLER, run_id)
        case "purge":
            world.provider.delete = kill
            await delete_run(world.context, CALLER, run_id)
        case "poll":
            world.provider.read = kill
            await world.work(poll_message(run_id))


@pytest.mark.parametrize("step", ["create", "tools", "cancel", "purge", "poll"])
async def test_whatever_the_step_a_run_is_taken_up_again_fifteen_seconds_after_a_kill(world, step):
    run = await world.start()
    if step in {"create", "tools"}:
        called(world, "look_up")
        await world.tick()
    elif step == "poll":
        world.provider.state["resp_1"] = later("too slow", code=RESPONSE_SLOW)
        await world.tick()
        world.clock.pass_(60)
    began = world.clock.now()
    with pytest.raises(Killed):
        await killed_while(world, step, run.id)
    owed = await world.run(run.id)
    assert owed.due <= began + LEASE
    world.clock.at = owed.due
    if step == "poll":
        # Polls follow their schedule.
        assert poll_message(run.id) in await world.tick(seconds=30)
    else:
        assert await world.tick(seconds=0) == [run.id]
