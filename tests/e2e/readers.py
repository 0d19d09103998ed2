"""Readers of a feed who lose connections at random."""

import random
import threading
import time
import urllib.error
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from tests.e2e.site import PATIENCE_SECONDS, Site
from tests.support.feeds import Reader

READERS = 10
# Characters of one, two, three and four bytes, and those that JSON and server-sent events must escape.
PROSE = 'Über den Wolken \u2028 "宇宙" \\n\r\n🚀 \x00 data: id: 7\n\n'


@dataclass
class Client:
    """A client that reads a feed in pages, loses its connection at random, and comes back."""

    site: Site
    run_id: str
    random: random.Random
    reader: Reader = field(default_factory=Reader)
    dropped: int = 0

    def follow(self) -> None:
        end = time.monotonic() + 2 * PATIENCE_SECONDS
        while not self.reader.done and time.monotonic() < end:
            try:
                page = self._read()
            except (OSError, urllib.error.URLError, ValueError):
                page = None
            if page is None or self.random.random() < 0.3:
                # The page is lost. The client requests it again.
                self.dropped += 1
            else:
                self.reader.read_page(page)
            time.sleep(self.random.uniform(0.05, 0.5))

    def _read(self) -> dict[str, Any]:
        query = f"after={self.reader.last_id}&limit={self.random.choice((1, 2, 5, 100))}"
        reply = self.site.api("GET", f"runs/{self.run_id}/events?{query}", accept="application/json")
        if reply.status != 200:
            raise ValueError(reply.status)
        return dict(reply.body)


class Readers:
    """Several clients that follow one feed side by side. Leaving the block waits until each has come to its end."""

    def __init__(self, site: Site, run_id: str) -> None:
        self.clients = [Client(site, run_id, random.Random(seed)) for seed in range(READERS)]
        self._threads = [threading.Thread(target=client.follow) for client in self.clients]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()

    def check(self, run: Mapping[str, Any]) -> None:
        """Check that each of them has the text of the outcome."""
        for client in self.clients:
            assert client.reader.done
            assert client.reader.text == run["output_text"]
        assert sum(client.dropped for client in self.clients) > READERS
        # The text came in several deltas: a client saw it grow.
        assert self.clients[0].reader.last_id > 5
