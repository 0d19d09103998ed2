"""`python -m bench`: measure everything and print one table. An idle machine gives better figures."""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError

from bench.generate_scenarios import uses_proxy
from bench.measure import Measurement, measure, median
from bench.polling_proxy import NotInstalled, installed_version
from bench.scenarios import sections
from bench.section import Section
from bench.table import heading, section_text, targets_text
from bench.targets import targets
from dev.processes import ChildFailed, interrupt_on_sigterm

QUICK_SHARE = 5


def run(chosen: Sequence[Section], repeats: int) -> dict[str, dict[str, Measurement]]:
    """Measure every scenario `repeats` times, in turns, so that a slow minute of the machine affects all of them.

    Returns the medians by section and scenario.
    """
    measured = {section.key: defaultdict[str, list[Measurement]](list) for section in chosen}
    timed = [section for section in chosen if not section.counts_only]
    for number in range(1, repeats + 1):
        for section in chosen if number == 1 else timed:
            for scenario in section.scenarios:
                print(f"{number}/{repeats} {section.key}: {scenario.name}", file=sys.stderr)
                measured[section.key][scenario.name].append(measure(scenario))
    return {key: {name: median(each) for name, each in names.items()} for key, names in measured.items()}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    keys = [section.key for section in sections()]
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(keys)}; default: all")
    parser.add_argument("--repeats", type=int, help="of each scenario; default: 3, or 1 with --quick")
    parser.add_argument(
        "--quick", action="store_true", help=f"measure 1/{QUICK_SHARE} as much, for a first look"
    )
    options = parser.parse_args(argv)
    if unknown := set(options.sections) - set(keys):
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    repeats = options.repeats or (1 if options.quick else 3)
    chosen = [
        section
        for section in sections(QUICK_SHARE if options.quick else 1)
        if not options.sections or section.key in options.sections
    ]
    interrupt_on_sigterm()
    try:
        proxy = [f"litellm {installed_version()}"] if any(map(uses_proxy, chosen)) else []
        head = heading(datetime.now(UTC), repeats, *proxy)
        results = run(chosen, repeats)
    except PackageNotFoundError as error:
        print(f"{error}: run `pip install -r requirements-bench.txt`", file=sys.stderr)
        return 1
    except (ChildFailed, NotInstalled) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(head)
    for section in chosen:
        print(f"\n{section_text(section, results[section.key])}")
    if judged := list(targets(chosen, results)):
        print(f"\n{targets_text(judged)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
