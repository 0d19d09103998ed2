from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import EXECUTABLE, Watched, chromium, enter_key, watch
from tests.browser.fake_api import KEY, FakeApi

Open = Callable[..., Watched]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for one module. An open browser runs an event loop, so asynchronous tests could not run."""
    if not EXECUTABLE.exists():
        pytest.fail(f"{EXECUTABLE} is missing: install Debian's package chromium")
    with chromium() as browser:
        yield browser


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as api:
        yield api


@pytest.fixture
def open_page(browser: Browser, api: FakeApi) -> Iterator[Open]:
    """Opens the dashboard of `api` in a new browser profile. At the end it checks that the page had no error."""
    opened: list[Watched] = []

    def open_page(route: str = "", key: str | None = KEY, **options: Any) -> Watched:
        watched = watch(browser.new_page(**options))
        watched.page.set_default_timeout(10_000)
        opened.append(watched)
        watched.page.goto(f"{api.origin}/api/dashboard{route}")
        if key is not None:
            enter_key(watched.page, key)
        return watched

    yield open_page
    for watched in opened:
        watched.page.close()
        assert watched.alarms == []
        assert [url for url in watched.requested if not url.startswith(f"{api.origin}/api/")] == []
