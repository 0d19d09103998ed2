"""The running host: connects the app's functions to HTTP, timers and queues."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial

from aiohttp import web

from dev.host import worker
from dev.host.datums import queue_metadata, timer_datum
from dev.host.definitions import Function, QueueOutput, QueueTrigger, TimerTrigger
from dev.host.errors import StartupError
from dev.host.guard import Guard
from dev.host.invocations import Invoker, Running
from dev.host.keys import Keys
from dev.host.queue_service import Account, Message, QueueServiceError, QueueServices
from dev.host.queues import QueueBinding, QueueListener
from dev.host.server import Server, parse_routes
from dev.host.settings import HostSettings
from dev.host.timers import Schedule, SystemClock, run_timer

ADDRESS = "127.0.0.1"
DRAIN_GRACE = timedelta(seconds=5)


class Host:
    """Serves the functions of one app. Constructor and `start` raise StartupError with every problem of the app."""

    def __init__(
        self,
        functions: list[Function],
        settings: HostSettings,
        *,
        keys: Keys,
        guard: Guard,
        environ: Mapping[str, str],
        services: QueueServices,
    ) -> None:
        self.keys = keys
        self.routes = parse_routes(functions, settings.route_prefix)
        self._functions = functions
        self._settings = settings
        self._schedules = _parse_schedules(functions)
        self._queues = _connect_queues(functions, environ, services)
        self._running = Running()
        outputs: dict[QueueOutput, Callable[[bytes], Awaitable[None]]] = {
            output: partial(self._put, self._queues[output])
            for function in functions
            for output in function.outputs
        }
        self._invoker = Invoker(settings.function_timeout, outputs)
        self._listeners: dict[QueueBinding, list[QueueListener]] = defaultdict(list)
        self._loops: list[asyncio.Task[None]] = []
        server = Server(
            functions, self.routes, keys=keys, guard=guard, invoker=self._invoker, running=self._running
        )
        self._runner = web.AppRunner(
            server.application(),
            access_log=None,
            # The real host hands on a compressed body as it came.
            auto_decompress=False,
            shutdown_timeout=DRAIN_GRACE.total_seconds(),
        )

    async def start(self, port: int) -> int:
        """Start serving and return the port, which the system chooses if `port` is 0."""
        for function in self._functions:
            if isinstance(function.trigger, QueueTrigger):
                await self._listen(function, self._queues[function.trigger])
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, ADDRESS, port).start()
        except OSError as error:
            raise StartupError(f"cannot listen on {ADDRESS}:{port}: {error.strerror}") from error
        for function in self._functions:
            if isinstance(function.trigger, TimerTrigger):
                self._schedule(function, function.trigger)
        served: int = self._runner.addresses[0][1]
        return served

    async def watch(self) -> None:
        """Run for ever, like the timers and queue listeners; raise the error that ends one of them."""
        never = asyncio.get_running_loop().create_future()
        ended, _ = await asyncio.wait([never, *self._loops], return_when=asyncio.FIRST_COMPLETED)
        for loop in ended:
            loop.result()

    async def stop(self) -> None:
        """Take no new work, give running calls DRAIN_GRACE to end, cancel the rest."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(self._runner.cleanup(), self._running.drain(DRAIN_GRACE))
        worker.stop()

    async def _listen(self, function: Function, source: QueueBinding) -> None:
        try:
            await source.service.create(source.queue)
        except QueueServiceError as error:
            raise StartupError(f"function {function.name}: no queue service: {error}") from error
        listener = QueueListener(
            source, partial(self._receive, function), self._settings.queues, self._running
        )
        self._listeners[source].append(listener)
        self._loops.append(asyncio.create_task(listener.listen()))

    async def _receive(self, function: Function, message: Message, body: bytes) -> None:
        text = worker.Datum(body.decode(errors="replace"), "string")
        await self._invoker.invoke(function, text, queue_metadata(message))

    def _schedule(self, function: Function, trigger: TimerTrigger) -> None:
        timer = run_timer(
            self._schedules[function.name],
            partial(self._tick, function),
            SystemClock(),
            run_on_startup=trigger.run_on_startup,
        )
        self._loops.append(asyncio.create_task(timer))

    async def _tick(self, function: Function, past_due: bool) -> None:
        call = self._invoker.fire(function, timer_datum(past_due=past_due))
        await asyncio.shield(self._running.spawn(call))  # a stop cancels the timer, not the call

    async def _put(self, target: QueueBinding, body: bytes) -> None:
        await target.put(body)
        for listener in self._listeners.get(target, ()):
            listener.notify()


def _parse_schedules(functions: Iterable[Function]) -> dict[str, Schedule]:
    schedules, problems = {}, []
    for function in functions:
        if isinstance(function.trigger, TimerTrigger):
            try:
                schedules[function.name] = Schedule.parse(function.trigger.schedule)
            except ValueError as error:
                problems.append(f"function {function.name}: {error}")
    if problems:
        raise StartupError.of(problems)
    return schedules


def _connect_queues(
    functions: Iterable[Function], environ: Mapping[str, str], services: QueueServices
) -> dict[QueueTrigger | QueueOutput, QueueBinding]:
    queues: dict[QueueTrigger | QueueOutput, QueueBinding] = {}
    problems = []
    for function in functions:
        for binding in (function.trigger, *function.outputs):
            if isinstance(binding, QueueTrigger | QueueOutput):
                try:
                    account = _account(binding.connection, environ)
                except ValueError as error:
                    problems.append(f"function {function.name}, queue {binding.queue}: {error}")
                else:
                    queues[binding] = QueueBinding(services.service(account), binding.queue)
    if problems:
        raise StartupError.of(problems)
    return queues


def _account(connection: str, environ: Mapping[str, str]) -> Account:
    """Find the connection string by its name, with or without the prefix that the real host allows."""
    text = environ.get(connection) or environ.get(f"AzureWebJobs{connection}")
    if not text:
        raise ValueError(f"there is no setting {connection}")
    try:
        return Account.parse(text)
    except ValueError as error:
        raise ValueError(f"setting {connection}: {error}") from error
