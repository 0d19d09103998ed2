"""Requests each operation without a valid key."""

from collections.abc import Mapping
from typing import Any

from tests.e2e.site import Site, call
from tests.proofs.fuzz.document import operations


def opened(site: Site, document: Mapping[str, Any]) -> list[str]:
    """Return the answers that are not an empty 401."""
    # Queries with their headers. A key in a header has priority over one in the address.
    wrong: Mapping[str, Mapping[str, str]] = {
        "": {},
        "?code=wrong": {},
        "?code=": {"x-functions-key": "wrong"},
        f"?code={site.keys.host}": {"x-functions-key": "wrong"},
    }
    found = []
    for method, template in operations(document):
        if document["paths"][template][method.lower()].get("security") == []:
            # The document declares that this operation needs no key.
            continue
        for query, headers in wrong.items():
            answer = call(method, f"{site.bases[0]}/api{template}{query}", headers=headers)
            if (answer.status, answer.body) != (401, None):
                found.append(f"{method} {template}{query} {dict(headers)}: {answer}")
    return found
