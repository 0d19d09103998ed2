"""The settings that say who may send requests: AUTH and what belongs to it.

API_KEYS holds no keys but their hashes. A fault shows neither these nor names, because somebody may have put a key there.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shared.core.caller import ApiKey, Role, granted

MAX_KEYS = 100
MAX_TENANTS = 20
KEY_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
A_KEY_NAME = "1 to 64 letters, digits, dots, hyphens and underscores"

_DIGEST = re.compile(r"[0-9A-Fa-f]{64}")
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_FIELDS = ("name", "roles", "sha256")
_NO_KEY = hashlib.sha256(b"").digest()
# A JSON object that may have a name twice. A JSON array is a list instead.
_Pairs = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSettings:
    """Who may send requests."""

    # Whether the app decides that itself, and not the Functions host by its keys.
    own: bool = False
    keys: tuple[ApiKey, ...] = ()
    # The tenants of Entra whose people may sign in. Without any, the platform's sign-in is not believed.
    tenants: frozenset[str] = frozenset()

    @property
    def host_level(self) -> str:
        """What the Functions host asks of a request: an authorization level, as Azure Functions names it."""
        return "ANONYMOUS" if self.own else "FUNCTION"


def access_settings(environment: Mapping[str, str]) -> tuple[AccessSettings, list[str]]:
    """Return the settings, and all their faults."""
    auth = environment.get("AUTH", "").strip() or "function"
    known = auth in {"function", "callers"}
    faults = [] if known else ["AUTH must be one of: function, callers."]
    keys, tenants = environment.get("API_KEYS", "").strip(), environment.get("ENTRA_TENANTS", "").strip()
    stated = environment.get("EASY_AUTH", "").strip() or "platform"
    faults += [] if stated in {"platform", "on"} else ["EASY_AUTH must be one of: platform, on."]
    found_keys, key_faults = _keys(keys)
    found_tenants, tenant_faults = _tenants(tenants)
    faults += [f"API_KEYS {fault}" for fault in key_faults] + tenant_faults
    if not known:
        # Whether these settings go together depends on it.
        return AccessSettings(), faults
    if auth == "function":
        used = {"API_KEYS": keys, "ENTRA_TENANTS": tenants, "EASY_AUTH": stated != "platform"}
        faults += [
            f"{name} needs AUTH=callers: without it, it protects nothing." for name in used if used[name]
        ]
        return AccessSettings(), faults
    on = environment.get("WEBSITE_AUTH_ENABLED", "").strip().lower() == "true" or stated == "on"
    faults += _missing(environment, keys=bool(keys), tenants=bool(tenants), on=on, stated=stated == "on")
    return AccessSettings(own=True, keys=found_keys, tenants=found_tenants), faults


def _missing(
    environment: Mapping[str, str], *, keys: bool, tenants: bool, on: bool, stated: bool
) -> Iterator[str]:
    if environment.get("OWNER_HEADER", "").strip():
        yield "OWNER_HEADER must not be set with AUTH=callers: each caller has an owner of its own."
    if not keys and not tenants:
        yield (
            "AUTH=callers needs API_KEYS, or ENTRA_TENANTS with App Service authentication: nobody could send a request."
        )
    if tenants and not on:
        yield (
            "ENTRA_TENANTS needs App Service authentication, and WEBSITE_AUTH_ENABLED, by which the platform says that "
            "it is on, is not true. Turn it on. If it is on, and the platform does not say so, set EASY_AUTH=on."
        )
    if stated and not tenants:
        yield "EASY_AUTH=on needs ENTRA_TENANTS: the tenants whose people may sign in."


def _tenants(text: str) -> tuple[frozenset[str], list[str]]:
    found = [each.strip().lower() for each in text.split(",")] if text else []
    if len(found) <= MAX_TENANTS and all(_GUID.fullmatch(each) for each in found):
        return frozenset(found), []
    return frozenset(), [
        f"ENTRA_TENANTS must be 1 to {MAX_TENANTS} ids of tenants (GUIDs), separated by commas."
    ]


def _keys(text: str) -> tuple[tuple[ApiKey, ...], list[str]]:
    """Return the keys in the setting, and all its faults. With a fault there are no keys."""
    if not text:
        return (), []
    try:
        entries = json.loads(text, object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, list):
        return (), [
            'must be a JSON list of objects: [{"name": "...", "roles": ["reader"], "sha256": "..."}].'
        ]
    if not 1 <= len(entries) <= MAX_KEYS:
        return (), [f"must have 1 to {MAX_KEYS} keys."]
    faults = [
        f"must give key {number} {fault}."
        for number, entry in enumerate(entries, start=1)
        for fault in _entry_faults(entry)
    ]
    if faults:
        return (), faults
    keys = tuple(_key(dict(entry)) for entry in entries)
    # Keys of one owner have the same name: the next key, or one that may only read.
    faults = list(_repeated([key.digest for key in keys]))
    return (() if faults else keys), faults


def _entry_faults(entry: object) -> Iterator[str]:
    if not isinstance(entry, tuple):
        yield f"an object with the fields {', '.join(_FIELDS)}"
        return
    pairs: _Pairs = entry
    if sorted(name for name, _ in pairs) != sorted(_FIELDS):
        yield f"the fields {', '.join(_FIELDS)}, each once, and no other"
        return
    values = dict(pairs)
    name, roles, digest = (values[name] for name in _FIELDS)
    if not isinstance(name, str) or not KEY_NAME.fullmatch(name):
        yield f"a name of {A_KEY_NAME}"
    if not _are_roles(roles):
        yield f"a list of one or more different roles: {', '.join(Role)}"
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        yield "a sha256 of 64 hexadecimal digits"
    elif bytes.fromhex(digest) == _NO_KEY:
        yield "the sha256 of a key, which this is not: it is that of an empty text"


def _are_roles(value: object) -> bool:
    if not isinstance(value, list) or not value:
        return False
    named = [each for each in value if isinstance(each, str) and each in set(Role)]
    return len(named) == len(value) == len(set(named))


def _key(entry: Mapping[str, Any]) -> ApiKey:
    return ApiKey(entry["name"], granted(entry["roles"]), bytes.fromhex(entry["sha256"]))


def _repeated(digests: list[bytes]) -> Iterator[str]:
    for number, digest in enumerate(digests, start=1):
        if digest in digests[: number - 1]:
            yield f"must not give key {number} the sha256 of key {digests.index(digest) + 1}."
