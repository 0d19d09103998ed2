"""What `make up` prints. Lines stay under 120 columns, and no value of a setting is shown but addresses and models."""

import shlex
import textwrap
from collections.abc import Sequence
from urllib.parse import quote, urlsplit

from dev.host.settings import LOCAL_SETTINGS
from dev.local_settings import ENVIRONMENT, OPENAI_KEY, OPENAI_URL, STACK, STORAGE, LocalSettings
from dev.screen import one_line

WIDTH = 110
_LABEL = 11
_SHOWN_CHANGES = 3

# The link has a line of its own, because terminals take what follows it for a part of it.
_PAGE = """
The dashboard, with the key of this folder:

  {link}

With curl:

  export BATON_URL={base} BATON_KEY={key}
  curl -si $BATON_URL/api/runs -H "x-functions-key: $BATON_KEY" \\
    -d '{{"agent": "space_novelist", "input": "A short novel about a lighthouse on a comet"}}'
  curl -s $BATON_URL/api/runs -H "x-functions-key: $BATON_KEY"

The text of a run while it is written, in another terminal:

  make watch RUN=run_...

Save a file of agents/ or shared/, and the host starts again with it. Ctrl-C ends everything.
"""
_PAGE_OF_CALLERS = """
The dashboard asks for a key of the app's own:

  {base}/api/dashboard

AUTH=callers is set, so the key of this folder opens nothing. `python -m dev key NAME ROLE...` makes one for API_KEYS.

  export BATON_URL={base} BATON_KEY=...
  curl -s $BATON_URL/api/me -H "x-functions-key: $BATON_KEY"

Ctrl-C ends everything.
"""
WAITING = "When a file changes, the host starts again. To see everything that it writes: make up ARGS=--log"


def row(label: str, text: str) -> str:
    """Return a label and a text, which is wrapped beside it."""
    return textwrap.fill(
        one_line(text),
        WIDTH,
        initial_indent=label.ljust(_LABEL),
        subsequent_indent=" " * _LABEL,
        break_long_words=False,
        break_on_hyphens=False,
    )


def settings(found: LocalSettings, emulator: str | None) -> list[str]:
    """Return which settings count, where they come from, and which provider and models follow from them."""
    why = "" if found.file == LOCAL_SETTINGS else f" (there is no {LOCAL_SETTINGS})"
    rows = [("settings", f"{found.file}{why}; the environment has priority")]
    rows += [("", line) for line in _origins(found)]
    rows.append(("provider", _provider(found, emulator)))
    if found.unused:
        rows.append(("", f"not sent to the emulator: {', '.join(found.unused)}"))
    rows.append(("models", _models(found)))
    return [row(*each) for each in rows]


def page(base: str, key: str, *, callers: bool = False) -> str:
    """Return what one can do with a host that is ready. A browser does not send what follows the # of a link.

    With `callers` the app has keys of its own, which this stack does not know.
    """
    if callers:
        return _PAGE_OF_CALLERS.format(base=base)
    link = f"{base}/api/dashboard#key={quote(key, safe='')}"
    return _PAGE.format(link=link, base=base, key=shlex.quote(key))


def storage(connection: str) -> str:
    """Return the addresses of the storage, which a connection string names."""
    parts = dict(part.split("=", 1) for part in connection.strip(";").split(";"))
    ports = [
        f"{each.lower()}s {urlsplit(parts[f'{each}Endpoint']).port}" for each in ("Table", "Queue", "Blob")
    ]
    return f"Azurite, in memory, at 127.0.0.1: {', '.join(ports)}"


def changed(files: Sequence[str]) -> str:
    more = len(files) - _SHOWN_CHANGES
    return ", ".join(files[:_SHOWN_CHANGES]) + (f" and {more} more" if more > 0 else "")


def failure(reasons: str) -> str:
    return f"\nThe host cannot start:\n{textwrap.indent(reasons, '  ')}\n\n{WAITING}"


def ended(reasons: str) -> str:
    first, *others = reasons.splitlines()
    return "\n".join([row("ended", f"the host ended by itself: {first}"), *(f"  {each}" for each in others)])


def _origins(found: LocalSettings) -> list[str]:
    """Return the names of all settings, a line for each place that they come from."""
    origins = {name: each.origin for name, each in found.found.items() if name not in found.unused}
    own = (STORAGE,) if found.provider else (STORAGE, OPENAI_KEY, OPENAI_URL)
    origins |= dict.fromkeys(own, STACK)
    places = {
        place: sorted(name for name, origin in origins.items() if origin == place)
        for place in (ENVIRONMENT, found.file, STACK)
    }
    return [f"{place}: {', '.join(names)}" for place, names in places.items() if names]


def _provider(found: LocalSettings, emulator: str | None) -> str:
    if found.provider:
        name, setting = found.provider
        return f"{found.address}, because of {name} in {setting.origin}"
    if found.placeholder:
        return f"{emulator}, an emulator: {OPENAI_KEY} in {found.file} is still that of the sample"
    return f"{emulator}, an emulator: neither {OPENAI_KEY} nor AZURE_OPENAI_ENDPOINT is set"


def _models(found: LocalSettings) -> str:
    models = [
        f"{name}={found.found[name].value}" if name in found.found else f"{name} is missing"
        for name in found.models
    ]
    if any(name not in found.found for name in found.models):
        how = "" if found.file == LOCAL_SETTINGS else f", a copy of {found.file},"
        return f"{', '.join(models)}: add it to Values in {LOCAL_SETTINGS}{how} or to the environment"
    note = "" if found.provider else " (the emulator accepts any name)"
    return ", ".join(models) + note if models else "no agent names a setting"
