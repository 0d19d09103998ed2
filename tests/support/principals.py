"""The header with which App Service authentication says whom it has signed in."""

import base64
import json
from collections.abc import Sequence

HEADER = "X-MS-CLIENT-PRINCIPAL"
TENANT = "aaaaaaaa-2222-3333-4444-555555555555"
OBJECT = "bbbbbbbb-6666-7777-8888-999999999999"
TENANT_CLAIM = "http://schemas.microsoft.com/identity/claims/tenantid"
OBJECT_CLAIM = "http://schemas.microsoft.com/identity/claims/objectidentifier"
NAME_CLAIM = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name"
ROLE_CLAIM = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"

Claims = Sequence[tuple[str, str]]


def claims(
    *roles: str, tenant: str = TENANT, person: str = OBJECT, name: str = "Ann Example", more: Claims = ()
) -> Claims:
    return [
        ("aud", "app"),
        (TENANT_CLAIM, tenant),
        (OBJECT_CLAIM, person),
        ("name", name),
        ("preferred_username", "ann@contoso.example"),
        *[("roles", role) for role in roles],
        *more,
    ]


def principal(of: Claims, **changes: object) -> str:
    """Return the value of the header."""
    fields: dict[str, object] = {
        "auth_typ": "aad",
        "name_typ": NAME_CLAIM,
        "role_typ": ROLE_CLAIM,
        "claims": [{"typ": kind, "val": value} for kind, value in of],
    }
    return encoded(fields | changes)


def encoded(value: object) -> str:
    return base64.b64encode(value if isinstance(value, bytes) else json.dumps(value).encode()).decode()
