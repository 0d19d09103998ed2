"""All settings: what they are, which values they may have, and how they depend on each other."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from shared.access_settings import AccessSettings, access_settings
from shared.core.invocation import FUNCTION_TIMEOUT, time_for_work
from shared.core.queues import POISON, Queue
from shared.core.quota import MAX_PENDING_RUNS, MAX_STARTS_PER_MINUTE, Limits
from shared.core.run import Chaining
from shared.declared_providers import DeclaredProviders, declared_providers
from shared.environment import URL, Check, Reader, is_https, is_url, matches
from shared.errors import InvalidSettings
from shared.function_timeout import NAME as TIMEOUT_SETTING
from shared.function_timeout import parse_function_timeout, spelled_otherwise, time_span
from shared.provider import AnyProvider
from shared.provider_headers import parse_headers

_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_TABLE = re.compile(r"[A-Za-z][A-Za-z0-9]{2,62}")
# The name of its poison queue must be one, too.
_QUEUE = re.compile(rf"[a-z0-9](?:[a-z0-9]|-(?=[a-z0-9])){{2,{62 - len(POISON)}}}")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")
# What a header may hold.
_KEY = re.compile(r"[ -~]+")
_KEY_CHARACTERS = "printable ASCII characters"
_OPENAI = "https://api.openai.com/v1"
# As browsers write an origin, which is compared with it, and as a header can hold it.
_PUBLIC = re.compile(
    r'https?://(?:[A-Z0-9._-]+|\[[0-9A-F:.]+\])(?::[0-9]+)?(?:/[!"$->@-~]*)?', re.IGNORECASE | re.ASCII
)
_PUBLIC_URL = f"{URL}, in ASCII: the name of a host in other letters as xn--..."


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """A connection string, or the endpoints of tables and queues for use with an identity."""

    connection: str
    endpoint: str
    queue_endpoint: str
    client_id: str
    runs_table: str
    content_table: str
    # The name of each queue.
    queues: Mapping[Queue, str]


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
    # How long one invocation holds the stream of a turn that the next one can continue.
    generate_for: timedelta


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
    # None: there are no quotas.
    quotas: Limits | None
    # The time after which the host ends an invocation.
    function_timeout: timedelta
    # The settings that agents name, as far as they are set.
    models: Mapping[str, str]
    # The providers that authors declare.
    declared: DeclaredProviders

    @property
    def single_owner(self) -> bool:
        """Whether everything belongs to one owner."""
        return self.owner_header is None and not self.access.own


def load(
    environment: Mapping[str, str],
    placeholders: Sequence[str] = (),
    checks: Sequence[tuple[str, Check]] = (),
    providers: Iterable[AnyProvider] = (),
) -> Settings:
    """Return the settings. `placeholders` are the settings that agents name, such as NOVELIST_MODEL.

    These may be missing, and so may those that the declared `providers` name: an agent whose setting is missing is not
    ready, and the others are.

    `checks` holds names of settings with a function of an adapter, which raises ValueError when it cannot use
    the value.
    Raises InvalidSettings with everything that is missing or wrong.
    """
    read = Reader(environment)
    for name, check in checks:
        read.check(name, check)
    access, faults = access_settings(environment)
    read.faults += faults
    found = Settings(
        function_timeout=(function_timeout := _function_timeout(read, environment)),
        storage=_storage(read),
        provider=_provider(read),
        poll=_poll(read),
        public_base_url=read.text("PUBLIC_BASE_URL", "", _is_public, _PUBLIC_URL) or None,
        trust_forwarded=read.choice("TRUST_FORWARDED", "off", ["on", "off"]) == "on",
        owner_header=(
            owner_header := read.text("OWNER_HEADER", "", matches(_HEADER), "a header name") or None
        ),
        access=access,
        any_input=_any_input(
            read, several="OWNER_HEADER" if owner_header else "AUTH=callers" if access.own else ""
        ),
        quotas=_quotas(read),
        models={name: model for name in placeholders if (model := read.text(name, ""))},
        declared=declared_providers(read, providers),
    )
    if found.provider.create_timeout > time_for_work(function_timeout):
        read.faults.append(
            f"PROVIDER_CREATE_TIMEOUT_SECONDS must be at least a minute less than the time-out of functions, which is "
            f"{time_span(function_timeout)}: set {TIMEOUT_SETTING} to change that."
        )
    if read.faults:
        raise InvalidSettings(read.faults)
    return found


def load_storage(environment: Mapping[str, str], checks: Sequence[tuple[str, Check]] = ()) -> StorageSettings:
    """Return the settings of the storage alone, for tools. Arguments and faults are as in `load`."""
    read = Reader(environment)
    for name, check in checks:
        read.check(name, check)
    found = _storage(read)
    if read.faults:
        raise InvalidSettings(read.faults)
    return found


def _function_timeout(read: Reader, environment: Mapping[str, str]) -> timedelta:
    given = {read.text("AzureFunctionsJobHost__functionTimeout", ""), *spelled_otherwise(environment)} - {""}
    if len(given) > 1:
        read.faults.append(
            f"{TIMEOUT_SETTING} is set several times, in different letter case, to different values."
        )
    elif given:
        try:
            return parse_function_timeout(given.pop())
        except ValueError as fault:
            read.faults.append(f"{TIMEOUT_SETTING} {fault}.")
    return FUNCTION_TIMEOUT


def _any_input(read: Reader, *, several: str) -> bool:
    """`several` is the setting by which the app has several owners, if there is one."""
    anything = read.choice("INPUT_ITEMS", "messages", ["messages", "any"]) == "any"
    if anything and several:
        read.faults.append(
            f"INPUT_ITEMS must be messages with {several}: other items can name what another owner has stored."
        )
    return anything


def _quotas(read: Reader) -> Limits | None:
    # A quota of 0 is no setting: 0 means that there is none.
    pending = read.number("QUOTA_PENDING_RUNS", 0, 1, MAX_PENDING_RUNS, integer=True)
    starts = read.number("QUOTA_STARTS_PER_MINUTE", 0, 1, MAX_STARTS_PER_MINUTE, integer=True)
    if not pending and not starts:
        return None
    return Limits(pending_runs=int(pending) or None, starts_per_minute=int(starts) or None)


def _storage(read: Reader) -> StorageSettings:
    connection = read.text("AzureWebJobsStorage", "")
    endpoint = read.text("AzureWebJobsStorage__tableServiceUri", "", is_https, "an https address")
    account = read.text(
        "AzureWebJobsStorage__accountName", "", matches(_ACCOUNT), "3 to 24 small letters and digits"
    )
    if not endpoint and account:
        endpoint = f"https://{account}.table.core.windows.net"
    queue_endpoint = read.text("AzureWebJobsStorage__queueServiceUri", "", is_https, "an https address")
    if not queue_endpoint and account:
        queue_endpoint = f"https://{account}.queue.core.windows.net"
    if not connection and not endpoint:
        read.faults.append(
            "AzureWebJobsStorage is missing: set a connection string, or AzureWebJobsStorage__accountName for an identity."
        )
    elif not connection and not queue_endpoint:
        read.faults.append(
            "AzureWebJobsStorage__queueServiceUri is missing: set it, or AzureWebJobsStorage__accountName."
        )
    a_table = "3 to 63 letters and digits, a letter first"
    return StorageSettings(
        connection=connection,
        endpoint=endpoint,
        queue_endpoint=queue_endpoint,
        client_id=read.text("AzureWebJobsStorage__clientId", ""),
        runs_table=read.text("RUNS_TABLE", "runs", matches(_TABLE), a_table),
        content_table=read.text("CONTENT_TABLE", "content", matches(_TABLE), a_table),
        queues=_queues(read),
    )


def _queues(read: Reader) -> Mapping[Queue, str]:
    a_queue = f"3 to {63 - len(POISON)} small letters, digits and single hyphens"
    names = {
        Queue.WORK: read.text("WORK_QUEUE", "baton-work", matches(_QUEUE), a_queue),
        Queue.GENERATE: read.text("GENERATE_QUEUE", "baton-generate", matches(_QUEUE), a_queue),
        Queue.DELIVER: read.text("DELIVER_QUEUE", "baton-deliver", matches(_QUEUE), a_queue),
    }
    taken = [*names.values(), *(name + POISON for name in names.values())]
    if len(set(taken)) < len(taken):
        read.faults.append(
            "WORK_QUEUE, GENERATE_QUEUE and DELIVER_QUEUE must differ, and none of them may be the name of another with "
            f"{POISON} at its end, where the host puts messages that failed."
        )
    return names


def _provider(read: Reader) -> ProviderSettings:
    endpoint = read.text("AZURE_OPENAI_ENDPOINT", "", is_url, URL)
    key = read.text("OPENAI_API_KEY", "", matches(_KEY), _KEY_CHARACTERS)
    if not endpoint and not key:
        read.faults.append(
            "OPENAI_API_KEY or AZURE_OPENAI_ENDPOINT is missing: set one of them to choose the provider."
        )
    headers, faults = parse_headers(read.text("PROVIDER_HEADERS", ""))
    read.faults += [f"PROVIDER_HEADERS {fault}" for fault in faults]
    chaining = read.choice("CHAINING", Chaining.PREVIOUS_RESPONSE_ID, list(Chaining))
    return ProviderSettings(
        openai_base_url=read.text("OPENAI_BASE_URL", _OPENAI, is_url, URL),
        openai_api_key=key,
        azure_endpoint=endpoint,
        azure_api_key=read.text("AZURE_OPENAI_API_KEY", "", matches(_KEY), _KEY_CHARACTERS),
        azure_scope=read.text("AZURE_OPENAI_SCOPE", "https://cognitiveservices.azure.com/.default"),
        azure_client_id=read.text("AZURE_CLIENT_ID", ""),
        chaining=Chaining(chaining),
        create_timeout=timedelta(seconds=read.number("PROVIDER_CREATE_TIMEOUT_SECONDS", 60, 1, 200)),
        poll_timeout=timedelta(seconds=read.number("PROVIDER_POLL_TIMEOUT_SECONDS", 10, 1, 60)),
        headers=headers,
    )


def _poll(read: Reader) -> PollSettings:
    shortest = timedelta(seconds=read.number("POLL_MIN_SECONDS", 2, 0.1, 60))
    longest = timedelta(seconds=read.number("POLL_MAX_SECONDS", 30, 0.1, 600))
    if shortest > longest:
        read.faults.append("POLL_MIN_SECONDS must not be more than POLL_MAX_SECONDS.")
    six_fields = "an NCRONTAB expression of six fields"
    return PollSettings(
        schedule=read.text("POLL_SCHEDULE", "*/5 * * * * *", lambda text: len(text.split()) == 6, six_fields),
        shortest=shortest,
        longest=longest,
        concurrency=int(read.number("POLL_CONCURRENCY", 500, 1, 5000, integer=True)),
        fanout=read.choice("POLL_FANOUT", "off", ["on", "off"]) == "on",
        longest_stream=timedelta(seconds=read.number("STREAM_POLL_MAX_SECONDS", 5, 0.1, 600)),
        slice_budget=timedelta(seconds=read.number("STREAM_SLICE_SECONDS", 1, 0.1, 30)),
        slice_pause=timedelta(seconds=read.number("STREAM_PAUSE_SECONDS", 0.25, 0.01, 10)),
        generate_for=timedelta(seconds=read.number("GENERATE_SECONDS", 240, 1, 1500)),
    )


def _is_public(text: str) -> bool:
    return is_url(text) and _PUBLIC.fullmatch(text) is not None
