"""`python -m tests.proofs.soak`: many runs with tools, on hosts that are killed again and again. Nothing may be lost."""

import argparse
import sys
import tempfile
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from dev import azurite, stack
from dev.processes import ChildFailed, interrupt_on_sigterm
from shared.core.pace import Schedule
from tests.e2e.site import Site
from tests.proofs.soak import report
from tests.proofs.soak.audit import audit
from tests.proofs.soak.course import Course
from tests.proofs.soak.fleet import HOSTS, Fleet
from tests.proofs.soak.load import Load
from tests.proofs.soak.logs import QUIET
from tests.proofs.soak.orders import CREATE_SECONDS, END_SECONDS, SLOW_CREATES, SLOW_END
from tests.proofs.soak.revival import Watcher
from tests.support.oracle import Effects

TICK = timedelta(seconds=2)
SCHEDULE = Schedule(shortest=timedelta(seconds=5), longest=timedelta(seconds=30))
# Two cores can carry this load without reaching their limit, with Azurite, the emulator and the clients beside it.
RUNS_A_SECOND = 5.0
AGENTS = Path(__file__).parent / "agents"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.soak", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=10, help="time under load; the runs that are open then may end later"
    )
    parser.add_argument("--runs", type=int, default=1_000, help="how many runs are kept pending")
    options = parser.parse_args(argv)
    interrupt_on_sigterm()
    try:
        with ExitStack() as servers:
            return soak(servers, options.runs, timedelta(minutes=options.minutes))
    except ChildFailed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def soak(servers: ExitStack, pending: int, under_load: timedelta) -> int:
    """Start everything, run the soak and print its figures and violations; return the exit status."""
    storage_process, storage = azurite.start()
    servers.enter_context(storage_process)
    provider_process, provider = stack.start_provider("--pace", "0")
    servers.enter_context(provider_process)
    folder = Path(servers.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
    site = _deployed(folder, storage, provider)
    _answer_late(site)
    fleet = Fleet(site)
    servers.callback(fleet.stop)
    for host in range(HOSTS):
        fleet.start(host)
    load = Load(site.bases, site.keys.host, pending, run_seconds=pending / RUNS_A_SECOND)
    watcher = Watcher(site)
    servers.callback(watcher.close)
    others = {"Azurite": storage_process, "emulator": provider_process}
    course = Course(fleet, load, others, watcher)
    course.run(under_load)
    effects = Effects.parse((folder / "effects").read_text().splitlines())
    verdict = audit(load.orders, load.runs, effects)
    print(*report.figures(course, verdict, SCHEDULE, TICK), sep="\n")
    fleet.stop()
    wrong = report.violations(course, verdict, TICK)
    print(*wrong or ["no run lost, no effect doubled, every text complete"], sep="\n")
    return 1 if wrong else 0


def _answer_late(site: Site) -> None:
    """Let the provider answer some requests late, always."""
    slow = [("create", SLOW_CREATES, CREATE_SECONDS)]
    slow += [(operation, SLOW_END, END_SECONDS) for operation in ("cancel", "delete")]
    for operation, words, seconds in slow:
        site.fault(kind="slow", operation=operation, contains=words, seconds=seconds, times=0)


def _deployed(folder: Path, storage: str, provider: str) -> Site:
    """Deploy the app with the agents of this folder instead of those that the tests share."""
    settings = {
        **QUIET,
        "POLL_SCHEDULE": f"*/{TICK.seconds} * * * * *",
        "POLL_MIN_SECONDS": str(SCHEDULE.shortest.seconds),
        "POLL_MAX_SECONDS": str(SCHEDULE.longest.seconds),
        # Longer than in the tests, where these limits end requests that stall: a busy machine is slow.
        "PROVIDER_CREATE_TIMEOUT_SECONDS": "20",
        "PROVIDER_POLL_TIMEOUT_SECONDS": "10",
        "EFFECTS": str(folder / "effects"),
    }
    site = Site(folder, storage, provider, settings)
    (site.app / "agents").unlink()
    (site.app / "agents").symlink_to(AGENTS)
    return site


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
