"""Finds the function that a request is for.

Routes are matched as ASP.NET does: letter case is ignored outside of parameters, a slash at the
end is ignored, and a route with another method does not match, so the answer is 404. Of several that
match, the function whose name comes first in the alphabet gets the request.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Self
from urllib.parse import unquote

CONSTRAINTS = {
    "alpha": re.compile(r"[a-z]*", re.IGNORECASE),
    "bool": re.compile(r"true|false", re.IGNORECASE),
    "guid": re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}", re.IGNORECASE),
    "int": re.compile(r"-?\d{1,10}", re.ASCII),
    "long": re.compile(r"-?\d{1,19}", re.ASCII),
}
PARAMETER = re.compile(
    r"\{(?P<rest>\*{0,2})(?P<name>[A-Za-z_]\w*)(?P<constraints>(:\w+)*)(?P<optional>\??)\}", re.ASCII
)
ESCAPED_SLASH = re.compile("(%2f)", re.IGNORECASE)


class Kind(Enum):
    LITERAL = "literal"
    REQUIRED = "required"
    OPTIONAL = "optional"
    REST = "rest"


@dataclass(frozen=True)
class Segment:
    kind: Kind
    text: str  # the literal in lower case, or the parameter's name
    constraints: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        if "{" not in text and "}" not in text:
            return cls(Kind.LITERAL, text.lower())
        match = PARAMETER.fullmatch(text)
        if match is None:
            raise ValueError(f"the local host does not know route segments such as {text!r}")
        constraints = tuple(name.lower() for name in match["constraints"].split(":")[1:])
        for name in constraints:
            if name not in CONSTRAINTS:
                raise ValueError(f"the local host does not know the route constraint {name!r}")
        kind = Kind.REST if match["rest"] else Kind.OPTIONAL if match["optional"] else Kind.REQUIRED
        return cls(kind, match["name"], constraints)

    def accepts(self, value: str) -> bool:
        if self.kind is Kind.LITERAL:
            return value.lower() == self.text
        return bool(value) and all(CONSTRAINTS[name].fullmatch(value) for name in self.constraints)


@dataclass(frozen=True)
class Route:
    """One function's address: `template` includes the prefix; no `methods` means every method."""

    function: str
    template: str
    methods: frozenset[str]
    segments: tuple[Segment, ...]

    @classmethod
    def parse(cls, function: str, template: str, methods: Iterable[str] = ()) -> Self:
        """Raises ValueError on a template that this host cannot match."""
        template = template.strip("/")
        segments = tuple(Segment.parse(text) for text in template.split("/")) if template else ()
        for segment in segments[:-1]:
            if segment.kind in (Kind.OPTIONAL, Kind.REST):
                raise ValueError(f"parameter {segment.text!r} may only come last in route {template!r}")
        return cls(function, template, frozenset(method.upper() for method in methods), segments)

    def match(self, path: str) -> dict[str, str] | None:
        """Return the route's parameters, or None if `path` (as sent, percent-encoded) does not match."""
        values = [_decode(part) for part in path.removeprefix("/").removesuffix("/").split("/")]
        if values == [""]:
            values = []
        parameters: dict[str, str] = {}
        for position, segment in enumerate(self.segments):
            if segment.kind is Kind.REST:
                parameters[segment.text] = "/".join(values[position:])
                return parameters
            if position == len(values):
                return parameters if segment.kind is Kind.OPTIONAL else None
            if not segment.accepts(values[position]):
                return None
            if segment.kind is not Kind.LITERAL:
                parameters[segment.text] = values[position]
        return parameters if len(values) == len(self.segments) else None


def in_order(routes: Iterable[Route]) -> list[Route]:
    return sorted(routes, key=lambda route: route.function.lower())


def find_route(routes: Iterable[Route], method: str, path: str) -> tuple[Route, Mapping[str, str]] | None:
    """Return the first of `routes`, which must be in order, that takes the request, and its parameters."""
    for route in routes:
        if route.methods and method.upper() not in route.methods:
            continue
        parameters = route.match(path)
        if parameters is not None:
            return route, parameters
    return None


def _decode(part: str) -> str:
    """Percent-decode as Kestrel does: an escaped slash stays escaped, and so does a part that is not UTF-8."""
    parts = ESCAPED_SLASH.split(part)
    try:
        return "".join(p if ESCAPED_SLASH.fullmatch(p) else unquote(p, errors="strict") for p in parts)
    except UnicodeDecodeError:
        return part
