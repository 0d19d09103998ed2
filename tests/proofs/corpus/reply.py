"""Recorded replies: reads the file of a case, and builds the bytes that a server sends for it."""

import gzip
import tomllib
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
TABLE = FOLDER / "statuses.toml"
# The requests that a reply answers; each has a folder. `chained` is a create that continues a
# response, `streamed` one whose stream will be read.
REQUESTS = ("create", "chained", "streamed", "read", "cancel", "delete")
# No real key looks like this. It is removed because it is the configured key, not because it looks like a key.
KEY = "a.corpus.key"

_FIELDS = {"about", "status", "reason", "headers", "length", "body", "base64", "charset", "gzip", "cut"}
_FIELDS |= {"fill", "raw", "expect"}


@dataclass(frozen=True)
class Case:
    """One reply and what it has to lead to. README.md describes the fields."""

    request: str
    name: str
    expect: Mapping[str, Any]
    about: str
    status: int = 200
    reason: str = "Reply"
    headers: Mapping[str, str] = field(default_factory=dict)
    length: str | None = None
    body: str = ""
    base64: str = ""
    charset: str = "utf-8"
    gzip: bool = False
    cut: int | None = None
    fill: Mapping[str, Any] = field(default_factory=dict)
    raw: str = ""

    @classmethod
    def read(cls, path: Path) -> "Case":
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
        if strange := set(fields) - _FIELDS:
            raise ValueError(f"{path.name} has unknown fields: {', '.join(sorted(strange))}")
        return cls(request=path.parent.name, name=path.stem, **fields)

    def content(self) -> bytes:
        """Return the complete body, before it is cut."""
        if self.base64:
            return b64decode(self.base64)
        text = self.body.replace("@KEY@", KEY)
        if self.fill:
            copies = (self.fill["text"].replace("@N@", str(n)) for n in range(self.fill["times"]))
            text = text.replace("@FILL@", self.fill.get("between", "").join(copies))
        packed = text.encode(self.charset)
        return gzip.compress(packed, mtime=0) if self.gzip else packed

    def wire(self, now: datetime, other: str) -> bytes:
        """Return all bytes that are sent; `other` is the address of a host that must not get a request."""
        if self.raw:
            return self.raw.replace("\n", "\r\n").encode("latin-1")
        content = self.content()
        length = str(len(content)) if self.length is None else self.length
        headers = {"Content-Type": "application/json", "Content-Length": length, **self.headers}
        lines = [f"{name}: {value}" for name, value in headers.items() if value]
        head = "\r\n".join([f"HTTP/1.1 {self.status} {self.reason}", *lines, "Connection: close", "", ""])
        head = head.replace("@OTHER@", other)
        for mark, seconds in (("@SOON@", 100), ("@PAST@", -100), ("@FAR@", 10**7)):
            head = head.replace(mark, format_datetime(now + timedelta(seconds=seconds), usegmt=True))
        return head.encode("latin-1") + content[: self.cut]


def cases() -> dict[str, Case]:
    """Return all cases by request and name, in order: those with a file of their own, and those of the table."""
    paths = [path for request in REQUESTS for path in sorted((FOLDER / request).glob("*.toml"))]
    found = [*map(Case.read, paths), *_of_the_table()]
    return {f"{case.request}/{case.name}": case for case in sorted(found, key=_order)}


def _of_the_table() -> Iterator[Case]:
    """Return the cases that are only a status and a usual body; they are lines of one table."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    for request in REQUESTS:
        for status, expect in table.get(request, {}).items():
            body = expect.pop("body")
            about = f"HTTP {status} with the body {body} ({request})"
            yield Case(
                request,
                f"status-{status}",
                expect,
                about=about,
                status=int(status),
                body=table["bodies"][body],
            )


def _order(case: Case) -> tuple[int, str]:
    return REQUESTS.index(case.request), case.name


def now() -> datetime:
    return datetime.now(UTC)
