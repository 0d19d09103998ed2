"""Read and check all settings. No other module reads the environment."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urlsplit

from shared.access_settings import AccessSettings, access_settings
from shared.core.run import Chaining
from shared.errors import InvalidSettings
from shared.provider_headers import parse_headers

_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_TABLE = re.compile(r"[A-Za-z][A-Za-z0-9]{2,62}")
_QUEUE = re.compile(r"[a-z0-9](?:[a-z0-9]|-(?=[a-z0-9])){2,62}")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")
_INTEGER = re.compile(r"[0-9]{1,9}")
# What a header may hold.
_KEY = re.compile(r"[ -~]+")
_KEY_CHARACTERS = "printable ASCII characters"
_OPENAI = "https://api.openai.com/v1"
# The description of what `_is_url` accepts.
_URL = "an http or https address without a query"
_Check = Callable[[str], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """A connection string, or the endpoint of the tables for use with an identity."""

    connection: str
    endpoint: str
    client_id: str
    runs_table: str
    content_table: str
    work_queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """Azure OpenAI if `azure_endpoint` is set, else OpenAI or the compatible server at `openai_base_url`."""

    openai_base_url: str
    openai_api_key: str
    azure_endpoint: str
    azure_api_key: str
    azure_scope: str
    azure_client_id: str
    chaining: Chaining
    create_timeout: timedelta
    poll_timeout: timedelta
    # They go with every request. Their values are secrets.
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PollSettings:
    """How often responses are polled, and how many at once."""

    schedule: str
    shortest: timedelta
    longest: timedelta
    concurrency: int
    fanout: bool
    # The longest time between two slices.
    longest_stream: timedelta
    # The longest time that one slice may take.
    slice_budget: timedelta
    # A slice ends when no event came for this long.
    slice_pause: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings. The README describes each one under its name in the environment."""

    storage: StorageSettings
    provider: ProviderSettings
    poll: PollSettings
    public_base_url: str | None
    trust_forwarded: bool
    owner_header: str | None
    access: AccessSettings
    # Whether the input of a run may hold every item that the provider accepts.
    any_input: bool
    # The settings that agents name, as far as they are set.
    models: Mapping[str, str]

    @property
    def single_owner(self) -> bool:
        """Whether everything belongs to one owner."""
        return self.owner_header is None and not self.access.own


class _Reader:
    """Reads settings and collects their faults."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.faults: list[str] = []

    def text(
        self,
        name: str,
        default: str | None = None,
        check: Callable[[str], bool] | None = None,
        expected: str = "",
    ) -> str:
        value = self._environment.get(name, "").strip()
        if not value:
            if default is None:
                self.faults.append(f"{name} is missing.")
            return default or ""
        if check and not check(value):
            self.faults.append(f"{name} must be {expected}.")
        return value

    def check(self, name: str, check: _Check) -> None:
        """Add a fault if the setting has a value for which `check` raises ValueError."""
        try:
            if value := self.text(name, ""):
                check(value)
        except ValueError as fault:
            self.faults.append(f"{name} is wrong: {fault}.")

    def number(self, name: str, default: float, least: float, most: float, *, integer: bool = False) -> float:
        value = self._environment.get(name, "").strip()
        if not value:
            return default
        pattern = _INTEGER if integer else _NUMBER
        if pattern.fullmatch(value) and least <= float(value) <= most:
            return float(value)
        kind = "an integer" if integer else "a number"
        self.faults.append(f"{name} must be {kind} from {least:g} to {most:g}.")
        return default

    def choice(self, name: str, default: str, choices: Sequence[str]) -> str:
        value = self.text(name, default, lambda value: value in choices, f"one of: {', '.join(choices)}")
        return value if value in choices else default


def load(
    environment: Mapping[str, str],
    placeholders: Sequence[str] = (),
    checks: Sequence[tuple[str, _Check]] = (),
) -> Settings:
    """Return the settings. `placeholders` are the settings that agents name, such as NOVELIST_MODEL.

    These may be missing: an agent whose setting is missing is not ready, and the others are.

    `checks` holds names of settings with a function of an adapter, which raises ValueError when it cannot use
    the value.
    Raises InvalidSettings with everything that is missing or wrong.
    """
    read = _Reader(environment)
    for name, check in checks:
        read.check(name, check)
    access, faults = access_settings(environment)
    read.faults += faults
    found = Settings(
        storage=_storage(read),
        provider=_provider(read),
        poll=_poll(read),
        public_base_url=read.text("PUBLIC_BASE_URL", "", _is_url, _URL) or None,
        trust_forwarded=read.choice("TRUST_FORWARDED", "off", ["on", "off"]) == "on",
        owner_header=(owner_header := read.text("OWNER_HEADER", "", _is(_HEADER), "a header name") or None),
        access=access,
        any_input=_any_input(
            read, several="OWNER_HEADER" if owner_header else "AUTH=callers" if access.own else ""
        ),
        models={name: model for name in placeholders if (model := read.text(name, ""))},
    )
    if read.faults:
        raise InvalidSettings(read.faults)
    return found


def _any_input(read: _Reader, *, several: str) -> bool:
    """`several` is the setting by which the app has several owners, if there is one."""
    anything = read.choice("INPUT_ITEMS", "messages", ["messages", "any"]) == "any"
    if anything and several:
        read.faults.append(
            f"INPUT_ITEMS must be messages with {several}: other items can name what another owner has stored."
        )
    return anything


def _storage(read: _Reader) -> StorageSettings:
    connection = read.text("AzureWebJobsStorage", "")
    endpoint = read.text("AzureWebJobsStorage__tableServiceUri", "", _is_https, "an https address")
    account = read.text(
        "AzureWebJobsStorage__accountName", "", _is(_ACCOUNT), "3 to 24 small letters and digits"
    )
    if not endpoint and account:
        endpoint = f"https://{account}.table.core.windows.net"
    if not connection and not endpoint:
        read.faults.append(
            "AzureWebJobsStorage is missing: set a connection string, or AzureWebJobsStorage__accountName for an identity."
        )
    a_table = "3 to 63 letters and digits, a letter first"
    a_queue = "3 to 63 small letters, digits and single hyphens"
    return StorageSettings(
        connection=connection,
        endpoint=endpoint,
        client_id=read.text("AzureWebJobsStorage__clientId", ""),
        runs_table=read.text("RUNS_TABLE", "runs", _is(_TABLE), a_table),
        content_table=read.text("CONTENT_TABLE", "content", _is(_TABLE), a_table),
        work_queue=read.text("WORK_QUEUE", None, _is(_QUEUE), a_queue),
    )


def _provider(read: _Reader) -> ProviderSettings:
    endpoint = read.text("AZURE_OPENAI_ENDPOINT", "", _is_url, _URL)
    key = read.text("OPENAI_API_KEY", "", _is(_KEY), _KEY_CHARACTERS)
    if not endpoint and not key:
        read.faults.append(
            "OPENAI_API_KEY or AZURE_OPENAI_ENDPOINT is missing: set one of them to choose the provider."
        )
    headers, faults = parse_headers(read.text("PROVIDER_HEADERS", ""))
    read.faults += [f"PROVIDER_HEADERS {fault}" for fault in faults]
    chaining = read.choice("CHAINING", Chaining.PREVIOUS_RESPONSE_ID, list(Chaining))
    return ProviderSettings(
        openai_base_url=read.text("OPENAI_BASE_URL", _OPENAI, _is_url, _URL),
        openai_api_key=key,
        azure_endpoint=endpoint,
        azure_api_key=read.text("AZURE_OPENAI_API_KEY", "", _is(_KEY), _KEY_CHARACTERS),
        azure_scope=read.text("AZURE_OPENAI_SCOPE", "https://cognitiveservices.azure.com/.default"),
        azure_client_id=read.text("AZURE_CLIENT_ID", ""),
        chaining=Chaining(chaining),
        create_timeout=timedelta(seconds=read.number("PROVIDER_CREATE_TIMEOUT_SECONDS", 60, 1, 200)),
        poll_timeout=timedelta(seconds=read.number("PROVIDER_POLL_TIMEOUT_SECONDS", 10, 1, 60)),
        headers=headers,
    )


def _poll(read: _Reader) -> PollSettings:
    shortest = timedelta(seconds=read.number("POLL_MIN_SECONDS", 2, 0.1, 60))
    longest = timedelta(seconds=read.number("POLL_MAX_SECONDS", 30, 0.1, 600))
    if shortest > longest:
        read.faults.append("POLL_MIN_SECONDS must not be more than POLL_MAX_SECONDS.")
    six_fields = "an NCRONTAB expression of six fields"
    return PollSettings(
        schedule=read.text("POLL_SCHEDULE", None, lambda text: len(text.split()) == 6, six_fields),
        shortest=shortest,
        longest=longest,
        concurrency=int(read.number("POLL_CONCURRENCY", 500, 1, 5000, integer=True)),
        fanout=read.choice("POLL_FANOUT", "off", ["on", "off"]) == "on",
        longest_stream=timedelta(seconds=read.number("STREAM_POLL_MAX_SECONDS", 5, 0.1, 600)),
        slice_budget=timedelta(seconds=read.number("STREAM_SLICE_SECONDS", 1, 0.1, 30)),
        slice_pause=timedelta(seconds=read.number("STREAM_PAUSE_SECONDS", 0.25, 0.01, 10)),
    )


def _is(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.fullmatch(text) is not None


def _is_https(text: str) -> bool:
    return text.startswith("https://") and _is_url(text)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        # Reading the port checks it.
        plain = parts.port != 0 and not (parts.query or parts.fragment or parts.username)
    except ValueError:
        return False
    return plain and parts.scheme in {"http", "https"} and bool(parts.hostname)
