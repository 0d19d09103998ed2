"""What the tests of clients share: the deployed app, and the examples of docs/clients.md."""

from tests.e2e.conftest import new_site, provider, site

__all__ = ["new_site", "provider", "site"]
