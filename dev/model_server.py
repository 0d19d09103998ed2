"""`python -m dev model-server`: llama.cpp's own server with the small model, on loopback, until SIGTERM or Ctrl-C."""

import argparse
import signal
import sys

from dev.provider.model import ModelMissingError, bundled_model


def main(argv: list[str]) -> int:
    argparse.ArgumentParser(prog="python -m dev model-server", description=__doc__).parse_args(argv)
    # Blocked before the server starts its threads, which inherit that: the wait below gets them.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        with bundled_model() as url:
            print(f"ready {url.rstrip('/')}/v1", flush=True)
            signal.sigwait(ends)
    except (ModelMissingError, OSError) as error:
        print(f"llama.cpp's server cannot start: {error}", file=sys.stderr)
        return 1
    return 0
