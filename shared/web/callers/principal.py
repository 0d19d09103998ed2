"""Find the caller of a request by what App Service authentication says of whom it has signed in.

The platform replaces X-MS-CLIENT-PRINCIPAL in each request while that authentication is on. Its value is base64 of a JSON
object. Source: learn.microsoft.com, "Work with user identities in Azure App Service authentication".
"""

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared.core.caller import PERSON_OWNER, Caller, Recognition, Role, granted
from shared.core.structure import has_more_marks, nests_deeper
from shared.core.text import clipped
from shared.errors import Forbidden, Unauthenticated

PRINCIPAL = "x-ms-client-principal"
# A sign-in with the ids of two hundred groups needs about half of it.
MAX_PRINCIPAL_CHARACTERS = 65_536
MAX_CLAIMS = 1_000
# A claim of a type and a value has four.
MAX_PRINCIPAL_MARKS = 8_000
# An object, its list of claims, a claim, and what an identity provider may put into one.
MAX_PRINCIPAL_NESTING = 8
MAX_SHOWN_NAME_CHARACTERS = 128

# What the platform calls Entra.
_ENTRA = "aad"
# A claim comes under the name that the token has, or under that of the platform.
_TENANT = ("tid", "http://schemas.microsoft.com/identity/claims/tenantid")
_OBJECT = ("oid", "http://schemas.microsoft.com/identity/claims/objectidentifier")
_NAME, _ROLES = "name", "roles"
_GUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom the platform has signed in, as it says it."""

    provider: str
    name_type: str
    role_type: str
    claims: Sequence[tuple[str, str]]

    def values(self, *types: str) -> list[str]:
        return [value for kind, value in self.claims if kind in types]


def signed_in(header: str, tenants: frozenset[str]) -> Caller:
    """Return the caller that the value of the header describes. Raises Unauthenticated or Forbidden."""
    principal = _principal(header)
    if principal.provider != _ENTRA:
        raise Forbidden(
            "Only accounts of Microsoft Entra may use this app. Sign in with one.",
            code="identity_provider_not_allowed",
        )
    tenant = _guid(principal.values(*_TENANT), "tenant")
    if tenant not in tenants:
        raise Forbidden(
            f"Accounts of the tenant {tenant} may not use this app. An administrator allows a tenant in ENTRA_TENANTS.",
            code="tenant_not_allowed",
        )
    owner = f"{PERSON_OWNER}{tenant}:{_guid(principal.values(*_OBJECT), 'object')}"
    roles = granted(principal.values(_ROLES, principal.role_type))
    if not roles:
        raise Forbidden(
            "Your account has no role in this app. An administrator has to assign one of its app roles to you in Microsoft "
            f"Entra: {', '.join(Role)}. After that, sign out and in again.",
            code="no_role",
        )
    return Caller(owner, roles, Recognition.SIGN_IN, _shown_name(principal))


def _principal(header: str) -> Principal:
    value = _decoded(header)
    claims = value.get("claims")
    if not isinstance(claims, list) or len(claims) > MAX_CLAIMS:
        raise _invalid()
    kinds = [value.get(name) for name in ("auth_typ", "name_typ", "role_typ")]
    provider, name_type, role_type = ("" if kind is None else _text(kind) for kind in kinds)
    if role_type and role_type in {name_type, _NAME, *_TENANT, *_OBJECT}:
        # What people are called gives them no role.
        raise _invalid()
    return Principal(provider, name_type, role_type, [_claim(claim) for claim in claims])


def _decoded(header: str) -> dict[str, Any]:
    """Return the JSON object. It is not parsed before its size and structure are known."""
    if len(header) > MAX_PRINCIPAL_CHARACTERS:
        raise _invalid()
    try:
        text = base64.b64decode(header, validate=True)
        if has_more_marks(text, MAX_PRINCIPAL_MARKS) or nests_deeper(
            text, MAX_PRINCIPAL_NESTING, marks=MAX_PRINCIPAL_MARKS
        ):
            raise _invalid()
        value = json.loads(text.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise _invalid() from None
    if not isinstance(value, dict):
        raise _invalid()
    return value


def _claim(claim: object) -> tuple[str, str]:
    if not isinstance(claim, dict):
        raise _invalid()
    return _text(claim.get("typ")), _text(claim.get("val"))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _invalid()
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _invalid()
    return found


def _guid(values: list[str], what: str) -> str:
    """Return the only value, in lower case. Two of them, even equal ones, are more than the platform sends."""
    if len(values) != 1 or not _GUID.fullmatch(values[0]):
        raise Unauthenticated(
            f"The sign-in does not have exactly one id of its {what}.",
            code="invalid_principal",
            field=PRINCIPAL,
        )
    return values[0].lower()


def _shown_name(principal: Principal) -> str | None:
    for value in [*principal.values(_NAME), *principal.values(principal.name_type)]:
        # No character that is invisible or turns the direction of what follows.
        if name := "".join(each for each in value if each.isprintable()).strip():
            return clipped(name, MAX_SHOWN_NAME_CHARACTERS)
    return None


def _invalid() -> Unauthenticated:
    return Unauthenticated(
        f"The header {PRINCIPAL} is not what App Service authentication sends.",
        code="invalid_principal",
        field=PRINCIPAL,
    )
