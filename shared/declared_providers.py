"""The providers that authors declare, with the values of the settings that they name."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from shared.environment import URL, Reader, is_url
from shared.provider import AnyProvider, filled_in, settings_in
from shared.provider_headers import A_VALUE, is_header_value


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredProvider:
    """A declared provider that can be used, because all settings that it names are set."""

    declared: AnyProvider
    base_url: str
    # Both are secrets.
    api_key: str | None = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)

    @property
    def to_check(self) -> str:
        """What to check when it refuses the credentials."""
        texts = [self.declared.api_key or "", *self.declared.headers.values()]
        names = dict.fromkeys(name for text in texts for name in settings_in(text))
        named = f", and the setting {' and '.join(names)}" if names else ""
        return f"api_key and headers of the provider {self.declared.name}{named}"


@dataclass(frozen=True, slots=True)
class DeclaredProviders:
    """The declared providers that can be used, and the settings that are missing for the others; both by name."""

    complete: Mapping[str, DeclaredProvider] = field(default_factory=dict)
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def declared_providers(read: Reader, providers: Iterable[AnyProvider]) -> DeclaredProviders:
    """Return the providers with the values of their settings. A value that cannot be used is a fault of `read`.

    A setting that is missing is none, because only the agents of its provider need it.
    """
    complete: dict[str, DeclaredProvider] = {}
    missing: dict[str, tuple[str, ...]] = {}
    for each in providers:
        fields = [*_fields(each)]
        names = dict.fromkeys(name for _, text, _ in fields for name in settings_in(text))
        values = {name: value for name in names if (value := read.text(name, ""))}
        read.faults += [fault for one in fields if (fault := _fault(each.name, *one, values))]
        if absent := tuple(name for name in names if name not in values):
            missing[each.name] = absent
        else:
            complete[each.name] = DeclaredProvider(
                declared=each,
                base_url=filled_in(each.base_url, values),
                api_key=each.api_key and filled_in(each.api_key, values),
                headers={name: filled_in(text, values) for name, text in each.headers.items()},
            )
    return DeclaredProviders(complete, missing)


_Accepts = tuple[Callable[[str], bool], str]


def _fields(provider: AnyProvider) -> Iterator[tuple[str, str, _Accepts]]:
    """Yield the texts that may name settings, each with its name and with what it has to be."""
    yield "base_url", provider.base_url, (is_url, URL)
    if provider.api_key:
        yield "api_key", provider.api_key, (is_header_value, A_VALUE)
    for name, text in provider.headers.items():
        yield f"header {name}", text, (is_header_value, A_VALUE)


def _fault(provider: str, what: str, text: str, accepts: _Accepts, values: Mapping[str, str]) -> str | None:
    """Return why a text of a provider cannot be used with the values of its settings. No value is shown."""
    names, (accepted, expected) = settings_in(text), accepts
    if not names or not values.keys() >= set(names) or accepted(filled_in(text, values)):
        return None
    return f"{' and '.join(names)}, as {what} of the provider {provider}, must be {expected}."
