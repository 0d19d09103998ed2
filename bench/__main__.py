"""`python -m bench`: measure everything and print one table."""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime

from bench.measure import Measurement, measure, median
from bench.scenarios import SECTIONS, Section
from bench.table import heading, section_text
from dev.processes import ChildFailed, interrupt_on_sigterm


def run(sections: Sequence[Section], repeats: int) -> dict[str, Measurement]:
    """Measure every scenario `repeats` times, in turns, so that a slow minute of the machine hits all alike."""
    measured = defaultdict[str, list[Measurement]](list)
    for _ in range(repeats):
        for section in sections:
            for scenario in section.scenarios:
                print(f"{section.key}: {scenario.name}", file=sys.stderr)
                measured[scenario.name].append(measure(scenario))
    return {name: median(each) for name, each in measured.items()}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    keys = [section.key for section in SECTIONS]
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(keys)}; default: all")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(argv)
    if unknown := set(options.sections) - set(keys):
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    sections = [each for each in SECTIONS if not options.sections or each.key in options.sections]
    interrupt_on_sigterm()
    try:
        results = run(sections, options.repeats)
    except ChildFailed as error:
        print(error, file=sys.stderr)
        return 1
    print(heading(datetime.now(UTC), options.repeats))
    for section in sections:
        print(f"\n{section_text(section, results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
