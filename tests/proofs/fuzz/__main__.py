"""`python -m tests.proofs.fuzz`: fuzz the running app with its own OpenAPI document, and print the results."""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from dev import azurite, stack
from dev.processes import ChildFailed, interrupt_on_sigterm
from tests.e2e.site import Site, script, wait_until
from tests.proofs.fuzz import campaign, keys, report
from tests.proofs.fuzz.campaign import Campaign
from tests.proofs.fuzz.document import ANSWER, METER, TRANSFER, narrowed
from tests.proofs.soak.logs import QUIET, error_records
from tests.proofs.soak.memory import resident_mib

_PROGRESS_SECONDS = 20
# Runs that wait from the beginning, and how many calls of each kind each of them has.
_WAITING_RUNS, _CALLS = 3, 40


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="the least number of requests to check")
    parser.add_argument("--seed", type=int, default=1, help="the seed of the generated requests")
    options = parser.parse_args(argv)
    interrupt_on_sigterm()
    try:
        with ExitStack() as servers:
            storage = servers.enter_context(azurite.azurite())
            child, provider = stack.start_provider("--pace", "0")
            servers.enter_context(child)
            folder = Path(servers.enter_context(tempfile.TemporaryDirectory(prefix="fuzz-")))
            site = servers.enter_context(closing(Site(folder, storage, provider, QUIET)))
            site.add_host()
            return fuzz(site, options.cases, options.seed)
    except ChildFailed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def fuzz(site: Site, cases: int, seed: int) -> int:
    """Fuzz a site with one host; return the exit status."""
    document = site.api("GET", "openapi.json").body
    agents = [agent["name"] for agent in site.api("GET", "agents").body["data"]]
    waiting = dict(_waiting(site) for _ in range(_WAITING_RUNS))
    [host] = site.hosts
    opened = keys.opened(site, document)
    memory, began = resident_mib(host.pid), time.monotonic()
    found = _watched(
        campaign.run(
            narrowed(document, agents, waiting),
            f"{site.bases[0]}/api",
            site.keys.host,
            cases=cases,
            seed=seed,
        )
    )
    took, enough = time.monotonic() - began, found.cases.total() >= cases
    # The provider works, and a bad request is only refused, so the host must log no error.
    errors = error_records(host.output)
    print(report.tried(found))
    print(f"memory of the host: {memory:.0f} MiB before, {resident_mib(host.pid):.0f} MiB after")
    if found.failures:
        print(f"\n{report.failed(found)}")
    for answer in opened:
        print(f"\nFAILED Without the right key: {answer}")
    for record in errors:
        print(f"\nFAILED The host logged an error.\n{record}")
    print(
        f"\n{found.cases.total()} cases in {took:.0f} s, seed {seed}: {len(found.failures)} failures"
        f"{'' if enough else f'; fewer than the {cases} cases wanted'}."
    )
    if not (answered := found.cases[f"POST {ANSWER}", 200]):
        print("\nFAILED No call was answered.")
    return 0 if enough and answered and not (found.failures or opened or errors) else 1


def _waiting(site: Site) -> tuple[str, list[str]]:
    """Return a run that waits, and the ids of its calls."""
    text = script(turns=[{"calls": [TRANSFER, METER] * _CALLS}, {"text": "done"}], loop=True)
    run_id = site.start(text, agent="asking")
    wait_until(lambda: site.get(run_id)["status"] == "requires_action", f"{run_id} waits")
    return run_id, [call["id"] for call in site.get(run_id)["required_action"]]


def _watched(campaigns: Iterator[Campaign]) -> Campaign:
    """Run a campaign to its end, and print its progress."""
    found, printed = Campaign(), time.monotonic()
    for found in campaigns:
        if time.monotonic() - printed > _PROGRESS_SECONDS:
            printed = time.monotonic()
            print(f"{found.cases.total()} cases ...", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
