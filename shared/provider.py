"""What the author of an agent writes to use a further provider: `Responses` or `ChatCompletions`.

Texts may name settings, as in "%GATEWAY_KEY%". Importing this module is fast, which matters for cold starts.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, get_args

from shared.author_faults import faults_of_name
from shared.environment import URL, is_url
from shared.ports.providers import DEFAULT_PROVIDER
from shared.provider_headers import A_VALUE, faults_of_headers, is_header_value

# How a provider goes on with a text that it has begun. "restart": it cannot, so the text is written anew.
Resume = Literal["restart", "prefix", "continue_final_message", "trailing", "partial"]

# Two hexadecimal digits between per cent signs are a part of an address, as in "/%E4%BD%A0".
_SETTING = re.compile(r"%(?![0-9A-Fa-f]{2}%)([A-Za-z0-9_]+)%")


@dataclass(frozen=True, eq=False)
class Responses:
    """A service that has the Responses API with its background mode.

    Raises ValueError when a field is wrong.
    """

    name: str
    _: KW_ONLY
    # The part of all addresses before "/responses".
    base_url: str = field(repr=False)
    # None: requests have no Authorization header.
    api_key: str | None = field(default=None, repr=False)
    # Further headers of every request. Their values are secrets.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, eq=False)
class ChatCompletions:
    """A service that has the Chat Completions API, and no background mode.

    Raises ValueError when a field is wrong.
    """

    name: str
    _: KW_ONLY
    # The part of all addresses before "/chat/completions".
    base_url: str = field(repr=False)
    # None: requests have no Authorization header.
    api_key: str | None = field(default=None, repr=False)
    resume: Resume = "restart"
    # Whether a text that is continued comes with the text so far in front.
    echoes: bool = False
    # Further headers of every request. Their values are secrets.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        _check(self, *_faults_of_resuming(self))


AnyProvider = Responses | ChatCompletions


def settings_in(text: str) -> tuple[str, ...]:
    """Return the names of the settings that a text of a provider names, each once."""
    return tuple(dict.fromkeys(_SETTING.findall(text)))


def filled_in(text: str, values: Mapping[str, str]) -> str:
    """Return a text of a provider with the values of the settings that it names. All of them must be there."""
    return _SETTING.sub(lambda match: values[match[1]], text)


def _check(provider: AnyProvider, *further: str) -> None:
    if faults := [*_faults(provider), *further]:
        raise ValueError(f"{type(provider).__name__} {_shown(provider.name)}: " + "; ".join(faults))
    # A copy, because what was checked must not change.
    object.__setattr__(provider, "headers", dict(provider.headers))


def _shown(name: Any) -> str:
    """Return a name for an error. A wrong one may be a key in the wrong place."""
    return name if isinstance(name, str) and not [*faults_of_name(name)] else "(no name)"


def _faults(provider: AnyProvider) -> Iterator[str]:
    yield from faults_of_name(provider.name)
    if provider.name == DEFAULT_PROVIDER:
        yield f"its name cannot be {DEFAULT_PROVIDER}, which is the provider of the app's settings"
    url, key, headers = provider.base_url, provider.api_key, provider.headers
    if not isinstance(url, str) or not (settings_in(url) or is_url(url)):
        yield f'its base_url must be {URL}, or name settings, as in "%GATEWAY_URL%"'
    if key is not None and not (isinstance(key, str) and (settings_in(key) or is_header_value(key))):
        yield f'its api_key must be {A_VALUE}, name a setting, as in "%GATEWAY_KEY%", or be None'
    if not isinstance(headers, Mapping):
        yield "its headers must be a dict of names and values"
        return
    for fault in faults_of_headers(tuple(headers.items()), later=lambda value: bool(settings_in(value))):
        yield f"its headers {fault.removesuffix('.')}"


def _faults_of_resuming(provider: ChatCompletions) -> Iterator[str]:
    if provider.resume not in get_args(Resume):
        yield f"its resume must be one of: {', '.join(get_args(Resume))}"
    if not isinstance(provider.echoes, bool):
        yield "its echoes must be True or False"
