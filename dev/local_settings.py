"""The settings of the host that `make up` starts, and where each of them comes from.

The environment has priority over local.settings.json, as in the Functions host. If that file exists, it counts as a whole,
and the sample does not count at all. The stack adds only what it runs itself, the storage, and the emulator when nothing
else names a provider; and a schedule, when nothing else sets one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from dev.host.settings import LOCAL_SETTINGS, read_values

SAMPLE = "local.settings.sample.json"
ENVIRONMENT = "the environment"
STACK = "this stack"

STORAGE = "AzureWebJobsStorage"
AZURE_ENDPOINT, OPENAI_KEY, OPENAI_URL = "AZURE_OPENAI_ENDPOINT", "OPENAI_API_KEY", "OPENAI_BASE_URL"
OPENAI = "https://api.openai.com/v1"
# What a request to a provider depends on. The emulator gets none of it.
PROVIDER = (AZURE_ENDPOINT, "AZURE_OPENAI_API_KEY", OPENAI_KEY, OPENAI_URL, "PROVIDER_HEADERS")
# Text appears sooner than with the app's own schedule, which suits a deployed app.
SCHEDULE = {"POLL_SCHEDULE": "*/2 * * * * *"}

# Settings of the app and of the local host, as far as a pattern tells them from the rest of the environment.
_SETTING = re.compile(
    r"AzureWebJobs\S+|AzureFunctionsJobHost__\S+|FUNCTIONS_\w+|(AZURE_)?OPENAI_\w+|AZURE_CLIENT_ID|PROVIDER_\w+|"
    r"(STREAM|POLL|GENERATE)_\w+|(RUNS|CONTENT)_TABLE|(WORK|DELIVER)_QUEUE|CHAINING|PUBLIC_BASE_URL|TRUST_FORWARDED|INPUT_ITEMS|"
    r"OWNER_HEADER|QUOTA_\w+|AUTH|API_KEYS|ENTRA_TENANTS|EASY_AUTH|WEBSITE_AUTH_ENABLED",
    re.IGNORECASE,
)
# A setting as the model of an agent, found without an import, because a file may be broken. Values of models are shown, so a
# setting that a provider names, such as its key, must not be taken for one.
_MODEL = re.compile(r"""model\w*\s*[=:]\s*(["'])%([A-Za-z_]\w*)%\1""", re.IGNORECASE)


@dataclass(frozen=True)
class Setting:
    value: str = field(repr=False)
    origin: str


@dataclass(frozen=True)
class LocalSettings:
    """Everything but what the stack runs itself."""

    app: Path
    file: str  # local.settings.json or the sample
    found: Mapping[str, Setting]
    models: tuple[str, ...]  # settings that agents name
    placeholder: bool  # OPENAI_API_KEY is still that of the sample, and does not count

    @property
    def provider(self) -> tuple[str, Setting] | None:
        """The setting that names a provider, with its value; None when the emulator is used. As the app decides it."""
        for name in (AZURE_ENDPOINT, OPENAI_KEY):
            if self._value(name):
                return name, self.found[name]
        return None

    @property
    def address(self) -> str:
        """The address of that provider, without what might be a secret."""
        return _public(self._value(AZURE_ENDPOINT) or self._value(OPENAI_URL) or OPENAI)

    @property
    def unused(self) -> list[str]:
        """Settings of a provider that do not count, because the emulator is used."""
        return [] if self.provider else [name for name in PROVIDER if self._value(name)]

    def for_host(self, environ: Mapping[str, str], storage: str, emulator: str | None) -> dict[str, str]:
        """Return the environment of a host. `emulator` is the address to use when nothing names a provider."""
        settings = {name: value for name, value in environ.items() if not _is_storage(name)}
        settings |= {name: setting.value for name, setting in self.found.items()} | {STORAGE: storage}
        if not self.provider:
            settings = emulated(settings, emulator or "")
        # A module that is saved twice within a second, with the same size, would be taken from its old bytecode.
        return settings | {"PYTHONDONTWRITEBYTECODE": "1"}

    def _value(self, name: str) -> str:
        setting = self.found.get(name)
        return setting.value.strip() if setting else ""


def read(app: Path, environ: Mapping[str, str]) -> LocalSettings:
    """Read the settings. Raises StartupError when a file cannot be used."""
    sample = read_values(app / SAMPLE) if (app / SAMPLE).exists() else {}
    if (app / LOCAL_SETTINGS).exists():
        file, values = LOCAL_SETTINGS, read_values(app / LOCAL_SETTINGS)
    else:
        file, values = SAMPLE, sample
    placeholder = OPENAI_KEY in values and values[OPENAI_KEY] == sample.get(OPENAI_KEY)
    found = {name: Setting(value, STACK) for name, value in SCHEDULE.items()}
    found |= {name: Setting(value, file) for name, value in values.items()}
    if placeholder:
        del found[OPENAI_KEY]
    models = _models_of_agents(app)
    known = {*values, *models}
    found |= {
        name: Setting(value, ENVIRONMENT)
        for name, value in environ.items()
        if name in known or _SETTING.fullmatch(name)
    }
    return LocalSettings(
        app=app,
        file=file,
        found={name: setting for name, setting in sorted(found.items()) if not _is_storage(name)},
        models=models,
        placeholder=placeholder and file == LOCAL_SETTINGS and OPENAI_KEY not in found,
    )


def emulated(settings: Mapping[str, str], emulator: str) -> dict[str, str]:
    """Return settings with the emulator at this address as the provider."""
    others = {name: value for name, value in settings.items() if name not in PROVIDER}
    return others | {OPENAI_URL: emulator, OPENAI_KEY: "local"}


def _models_of_agents(app: Path) -> tuple[str, ...]:
    names: set[str] = set()
    for path in (app / "agents").rglob("*.py"):
        names.update(name for _, name in _MODEL.findall(path.read_text(encoding="utf-8", errors="replace")))
    return tuple(sorted(names))


def _is_storage(name: str) -> bool:
    return name == STORAGE or name.startswith(f"{STORAGE}__")


def _public(address: str) -> str:
    """Return an address without a user, a password and a query, which may hold keys."""
    try:
        parts = urlsplit(address)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an address that cannot be read"
    if not parts.hostname:
        return "an address without a host"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}{parts.path}"
