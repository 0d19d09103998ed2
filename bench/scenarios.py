"""The scenarios that are measured, and those that they are compared with."""

from collections.abc import Mapping
from datetime import timedelta

from bench import generate_scenarios
from bench.measure import Scenario
from bench.section import Column, Section

UNCHANGED_POLLS = 6
"""Reads of a complete run that find it in progress; the one after them finds it completed."""
SLOW_ANSWER = timedelta(milliseconds=500)
RUNS = 1_000
RUNS_OF_SLICES = 200
"""Fewer than RUNS: each slice is written, and the storage uses the same machine."""
EVENTS = (1, 30, 300)
"""Events of a slice; a fast model sends 300 between two polls."""
EVENT_GAP = timedelta(milliseconds=1)
RUNS_OF_BIG_TICK = 5_000
IN_FLIGHT = 500
"""The default of POLL_CONCURRENCY."""


def sections(share: int = 1) -> tuple[Section, ...]:
    """Return all sections; a `share` of 5 measures a fifth as much."""
    requests = (
        _provider_request("create", 2_000 // share),
        _provider_request("read", 2_000 // share),
        _table_request("get", 500 // share),
        _table_request("transaction", 200 // share),
        _table_request("query", 40 // share),
    )
    timed = (_poll(share), _slices(share), _run(share), _slow(share), _big(share))
    return (*timed, *generate_scenarios.sections(share), _operations(share), _cold(), *requests)


def _poll(share: int) -> Section:
    return Section(
        key="poll",
        title="An unchanged poll",
        unit="poll",
        references=("naive", "floor"),
        scenarios=(
            *(_floor(polls=10_000 // share, in_flight=many) for many in (16, 64)),
            *(_naive(polls=600 // share, in_flight=many) for many in (1, 16, 64)),
            *(
                Scenario(
                    name=f"Baton, ticks over {RUNS // share:,} runs, {many} in flight",
                    group="baton",
                    target="bench.baton:unchanged_polls",
                    options={"runs": RUNS // share, "ticks": 10, "in_flight": many},
                    provider=True,
                    storage=True,
                )
                for many in (64, IN_FLIGHT)
            ),
        ),
    )


def _floor(*, polls: int, in_flight: int) -> Scenario:
    return Scenario(
        name=f"floor: bare aiohttp GET, {in_flight} in flight",
        group="floor",
        target="bench.floor:unchanged_polls",
        options={"polls": polls, "in_flight": in_flight},
        provider=True,
    )


def _naive(*, polls: int, in_flight: int) -> Scenario:
    return Scenario(
        name=f"naive loop, {in_flight} in flight",
        group="naive",
        target="bench.naive:unchanged_polls",
        options={"runs": 100, "polls": polls, "in_flight": in_flight},
        provider=True,
        storage=True,
    )


def _slices(share: int) -> Section:
    """Each connection serves one slice, as it does when a slice ends in the middle of a stream."""
    runs, ticks = RUNS_OF_SLICES // share, 5

    def read(group: str, name: str, target: str, events: int) -> Scenario:
        slices = 150_000 // (events + 300) // share
        return Scenario(
            name=f"{name}, {_many(events)}",
            group=f"{group}, many" if events == EVENTS[-1] else group,
            target=target,
            options={"slices": slices, "events": events, "in_flight": 16},
            provider=True,
            events=events,
        )

    def baton(name: str, events: int, gap: timedelta = timedelta()) -> Scenario:
        return Scenario(
            name=f"Baton, all of it stored: {name}",
            group="baton, many" if events == EVENTS[-1] and not gap else "baton",
            target="bench.baton:slices",
            options={"runs": runs, "ticks": ticks, "events": events},
            provider=True,
            storage=True,
            events=events,
            event_gap=gap,
        )

    return Section(
        key="slices",
        title=f"A slice of a stream, in ticks over {runs} runs",
        unit="slice",
        references=("poll",),
        columns=(Column.CPU, Column.RATE, Column.NOTES),
        scenarios=(
            *(read("floor", "floor: aiohttp and json.loads", "bench.floor:slices", many) for many in EVENTS),
            *(read("typed", "openai's typed events", "bench.naive:slices", many) for many in EVENTS),
            *(read("read", "Baton, nothing stored", "bench.baton:slices_read", many) for many in EVENTS),
            Scenario(
                name="Baton: an unchanged poll that is no slice",
                group="poll",
                target="bench.baton:unchanged_polls",
                options={"runs": runs, "ticks": ticks, "in_flight": IN_FLIGHT},
                provider=True,
                storage=True,
            ),
            baton("nothing new, so a plain read follows", 0),
            *(baton(_many(many), many) for many in EVENTS),
            baton(f"{_many(EVENTS[-1])}, one after another", EVENTS[-1], EVENT_GAP),
        ),
    )


def _many(events: int) -> str:
    return f"{events} event{'s' if events > 1 else ''}"


def _run(share: int) -> Section:
    return Section(
        key="run",
        title=f"A complete run: start, {UNCHANGED_POLLS} polls in progress, finish with 2 KB",
        unit="run",
        references=("agent-framework",),
        scenarios=(
            *(
                Scenario(
                    name=f"agent-framework in memory, {in_flight:,} in flight",
                    group="agent-framework",
                    target="bench.agent_framework:whole_runs",
                    options={"runs": runs, "in_flight": in_flight},
                    provider=True,
                    unchanged_polls=UNCHANGED_POLLS,
                )
                for runs, in_flight in (
                    (200 // share, 1),
                    (300 // share, 64),
                    (RUNS // share, RUNS // share),
                )
            ),
            Scenario(
                name=f"Baton, all of it stored, {RUNS // share:,} runs",
                group="baton",
                target="bench.baton:whole_runs",
                options={"runs": RUNS // share, "polls": UNCHANGED_POLLS + 1, "in_flight": IN_FLIGHT},
                provider=True,
                storage=True,
                unchanged_polls=UNCHANGED_POLLS,
            ),
        ),
    )


def _slow(share: int) -> Section:
    return Section(
        key="slow",
        title="A provider that answers after 500 ms",
        unit="poll",
        scenarios=(
            Scenario(
                name="naive loop, serial",
                group="naive",
                target="bench.naive:unchanged_polls",
                options={"runs": 10 // share, "polls": 10 // share, "in_flight": 1},
                provider=True,
                storage=True,
                delay=SLOW_ANSWER,
            ),
            Scenario(
                name=f"Baton, one tick over {RUNS:,} runs, {IN_FLIGHT} in flight",
                group="baton",
                target="bench.baton:first_tick",
                options={"runs": RUNS, "in_flight": IN_FLIGHT},
                provider=True,
                storage=True,
                delay=SLOW_ANSWER,
            ),
        ),
    )


def _big(share: int) -> Section:
    runs = RUNS_OF_BIG_TICK // share
    return Section(
        key="big",
        title="The first tick of a new process, which opens its connections",
        unit="poll",
        scenarios=(
            Scenario(
                name=f"Baton, one tick over {runs:,} runs, {IN_FLIGHT} in flight",
                group="baton",
                target="bench.baton:first_tick",
                options={"runs": runs, "in_flight": IN_FLIGHT},
                provider=True,
                storage=True,
            ),
        ),
    )


def _table_request(request: str, times: int) -> Section:
    clients = {
        "default": "azure-data-tables",
        "tuned": "azure-data-tables, no proxies and fewer retries",
        "own": "Baton",
    }
    return _request(
        "Table Storage", "bench.requests_to_tables:requests", clients, request, times, provider=False
    )


def _provider_request(request: str, times: int) -> Section:
    clients = {"httpx": "openai, as it comes", "aiohttp": "openai over aiohttp", "own": "Baton"}
    target = "bench.requests_to_provider:requests"
    return _request("the provider", target, clients, request, times, provider=True)


def _request(
    receiver: str, target: str, clients: Mapping[str, str], request: str, times: int, *, provider: bool
) -> Section:
    """Return the section that compares how `clients`, each with its name, send a request."""
    return Section(
        key=request,
        title=f"A request to {receiver}: {request}",
        unit="request",
        references=("sdk",),
        columns=(Column.CPU, Column.RATE),
        scenarios=tuple(
            Scenario(
                name=f"{name}: {request}",
                group="baton" if client == "own" else "sdk",
                target=target,
                options={"client": client, "request": request, "times": times},
                provider=provider,
                storage=not provider,
            )
            for client, name in clients.items()
        ),
    )


def _operations(share: int) -> Section:
    def baton(
        name: str, counted: str, *, provider_reads: int = UNCHANGED_POLLS, events: int = 0, **options: object
    ) -> Scenario:
        return Scenario(
            name=f"Baton: {name}",
            group="baton",
            target=f"bench.baton:{counted}_operations",
            options=options,
            provider=True,
            storage=True,
            unchanged_polls=provider_reads,
            events=events,
        )

    return Section(
        key="operations",
        title="Storage operations",
        unit="action",
        columns=(Column.NOTES,),
        counts_only=True,
        scenarios=(
            Scenario(
                name="naive loop: a poll, changed or not",
                group="naive",
                target="bench.naive:poll_operations",
                provider=True,
                storage=True,
            ),
            baton("a start", "start"),
            baton("an unchanged poll", "poll", polls_before=1),
            baton("the poll that finds the response begun", "poll", polls_before=0),
            baton("the poll that finds the response finished", "poll", polls_before=1, provider_reads=1),
            baton("a slice with text", "slice", events=30),
            baton("a slice with nothing new", "slice"),
            baton("a status read", "status", polls_before=1),
            baton("a status read of the finished run", "status", polls_before=1, provider_reads=0),
            baton("a feed read with the texts of 20 slices", "feed", events=30, slices=20, new=True),
            baton("a feed read with nothing new", "feed", events=30, slices=20, new=False),
            baton("a tick over a shard, nothing due", "tick", due=False),
            baton("a tick over a shard, a run due, unchanged", "tick", due=True),
            *generate_scenarios.operations(share),
        ),
    )


def _cold() -> Section:
    sdks = ["azure.functions", "azure.data.tables.aio", "azure.identity.aio", "openai"]
    return Section(
        key="cold",
        title="The first invocation in a new process, imports included",
        unit="cold start",
        columns=(Column.CPU, Column.WALL, Column.MEMORY, Column.NOTES),
        scenarios=(
            *(
                Scenario(
                    name=f"Baton: {name}",
                    group="baton",
                    target="bench.cold:first_invocation",
                    options={"of": of},
                    provider=True,
                    storage=True,
                )
                for of, name in (
                    ("status", "a status read"),
                    ("poll", "a tick, one run due"),
                    ("start", "a start"),
                )
            ),
            Scenario(
                name="importing functions, tables, identity, openai",
                group="sdks",
                target="bench.imports:first_import",
                options={"modules": sdks},
            ),
        ),
    )
