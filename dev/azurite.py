"""Azurite, Microsoft's storage emulator, in memory and on ports of its own."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dev.processes import ChildFailed, ChildProcess, interrupt_on_sigterm

PROGRAM = Path(__file__).parents[1] / "node_modules" / ".bin" / "azurite"
# The account and the key that Azurite documents. They give access to nothing else.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True)
class Ports:
    blob: int = 0
    queue: int = 0
    table: int = 0

    @classmethod
    def from_first(cls, port: int) -> "Ports":
        """Blobs at `port`, queues and tables at the two after it; 0 lets the system choose all three."""
        return cls(blob=port, queue=port + 1, table=port + 2) if port else cls()

    @property
    def connection_string(self) -> str:
        def endpoint(port: int) -> str:
            return f"http://127.0.0.1:{port}/{ACCOUNT};"

        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
            f"BlobEndpoint={endpoint(self.blob)}"
            f"QueueEndpoint={endpoint(self.queue)}"
            f"TableEndpoint={endpoint(self.table)}"
        )


def start(port: int = 0) -> tuple[ChildProcess, str]:
    """Start Azurite and return it with its connection string, once all three services answer.

    Raises ChildFailed when it is not installed or does not start, for example because a port is taken.
    """
    if not PROGRAM.exists():
        raise ChildFailed(f"{PROGRAM} is missing: run `npm ci --ignore-scripts` in {PROGRAM.parents[2]}")
    wanted = Ports.from_first(port)
    command = [
        str(PROGRAM),
        "--inMemoryPersistence",
        "--skipApiVersionCheck",
        "--disableTelemetry",
        "--silent",
    ]
    command += ["--blobPort", str(wanted.blob), "--queuePort", str(wanted.queue)]
    command += ["--tablePort", str(wanted.table)]
    child = ChildProcess("azurite", command)
    try:
        ports = Ports(*(_port_of(child, service) for service in ("Blob", "Queue", "Table")))
    except BaseException:
        child.kill()
        raise
    return child, ports.connection_string


def _port_of(child: ChildProcess, service: str) -> int:
    line = child.wait_for(rf"Azurite {service} service is successfully listening at http://[\d.]+:(\d+)")
    return int(line.group(1))


@contextmanager
def azurite(port: int = 0) -> Iterator[str]:
    """Run Azurite during the block and yield its connection string."""
    child, connection_string = start(port)
    with child:
        yield connection_string


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m dev azurite", description=__doc__)
    parser.add_argument(
        "--port", type=int, default=10000, help="of blobs; queues and tables take the next two; 0 = any free"
    )
    options = parser.parse_args(argv)
    interrupt_on_sigterm()
    try:
        child, connection_string = start(options.port)
        with child:
            print(f"ready {connection_string}", flush=True)
            child.wait()
            print(f"Azurite ended by itself:\n{child.output}", file=sys.stderr)
    except ChildFailed as error:
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        return 0
    return 1
