"""Debian's Chromium under playwright, and a page whose requests and errors are noted."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, sync_playwright

EXECUTABLE = Path("/usr/bin/chromium")
REBOUND = "rebound.example"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # The name of a page that an attacker points to this machine.
    f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1",
]


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watched:
    """A page, every address that it requested, and everything that shows an error or an executed text."""

    page: Page
    requested: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)


def watch(page: Page) -> Watched:
    watched = Watched(page)
    page.on("request", lambda request: watched.requested.append(request.url))
    page.on("dialog", lambda dialog: _dismiss(watched, dialog))
    page.on("pageerror", lambda error: watched.alarms.append(f"error {error}"))
    page.on("popup", lambda popup: watched.alarms.append(f"popup {popup.url}"))
    page.on("console", lambda message: watched.alarms.extend(_alarm(message)))
    return watched


def _dismiss(watched: Watched, dialog: Dialog) -> None:
    watched.alarms.append(f"dialog {dialog.message}")
    dialog.dismiss()


def _alarm(message: ConsoleMessage) -> list[str]:
    # Chromium reports a failed request as an error. Some tests cause such requests.
    failed_request = message.text.startswith("Failed to load resource")
    return [f"console {message.text}"] if message.type == "error" and not failed_request else []


def enter_key(page: Page, key: str) -> None:
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Open").click()
