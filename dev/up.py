"""`python -m dev up`: run the complete stack in the foreground, for work with curl, until Ctrl-C."""

import argparse
import os
import sys
import time
from contextlib import ExitStack

from dev import azurite, stack
from dev.processes import ChildFailed, ChildProcess, interrupt_on_sigterm

_EXAMPLE = """
  export BATON_URL={base} BATON_KEY={key}
  curl -si $BATON_URL/api/runs -H "x-functions-key: $BATON_KEY" \\
    -d '{{"agent": "space_novelist", "input": "A short novel about a lighthouse on a comet"}}'
  curl -s $BATON_URL/api/runs -H "x-functions-key: $BATON_KEY"
  python -m dev watch RUN_ID

The same in a browser, with that key: {base}/api/dashboard

Ctrl-C ends everything.
"""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m dev up", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="of the Functions host; 0 = any free port")
    parser.add_argument("--log", action="store_true", help="show what the host logs")
    options = parser.parse_args(argv)
    interrupt_on_sigterm()
    try:
        with ExitStack() as running:
            return _watch(_start(running, options.port), log=options.log)
    except ChildFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print()
        return 0


def _start(running: ExitStack, port: int) -> list[ChildProcess]:
    """Start everything and print the addresses."""
    storage, connection = azurite.start()
    children = [running.enter_context(storage)]
    emulator = None
    if own := stack.own_provider(os.environ):
        print(f"provider   {own}")
    else:
        provider, emulator = stack.start_provider("--pace", "20")
        children.append(running.enter_context(provider))
        print(f"provider   {emulator}  (emulator)")
    host, base = stack.start_host(stack.environment(connection, emulator), port=port)
    children.append(running.enter_context(host))
    key = stack.keys().host
    print(f"storage    {connection}")
    print(f"functions  {base}/api  (x-functions-key: {key})")
    print(_EXAMPLE.format(base=base, key=key), flush=True)
    return children


def _watch(children: list[ChildProcess], *, log: bool) -> int:
    """Wait until a part ends by itself, which is an error."""
    shown = len(children[-1].output.splitlines())
    while True:
        for child in children:
            if not child.running:
                print(f"{child.name} ended by itself:\n{child.output}", file=sys.stderr)
                return 1
        if log:
            lines = children[-1].output.splitlines()
            print(*lines[shown:], sep="\n", end="\n" if lines[shown:] else "", flush=True)
            shown = len(lines)
        time.sleep(0.5)
