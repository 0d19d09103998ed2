"""Start the provider emulator as a child process, as the stack and the tests do."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from dev.processes import ChildProcess

ROOT = Path(__file__).parents[2]
# Loading the bundled model takes longest.
READY_TIMEOUT = timedelta(seconds=60)


def start(
    *, port: int = 0, pace: float | None = None, model_server: str | None = None
) -> tuple[ChildProcess, str]:
    """Start the emulator and return it with its address, once it answers; the API is under /v1.

    `pace` is the seconds a novel takes. Raises ChildFailed when it does not start.
    """
    command = [sys.executable, "-m", "dev.provider", "--port", str(port)]
    if pace is not None:
        command += ["--pace", str(pace)]
    if model_server is not None:
        command += ["--model-server", model_server]
    child = ChildProcess("provider", command, cwd=ROOT)
    try:
        line = child.wait_for(r'^\{"ready": true.*\}$', timeout=READY_TIMEOUT).group()
    except BaseException:
        child.kill()
        raise
    return child, str(json.loads(line)["url"])


@contextmanager
def provider(*, pace: float = 0.0) -> Iterator[str]:
    """Run the emulator during the block and yield its address."""
    child, url = start(pace=pace)
    with child:
        yield url
