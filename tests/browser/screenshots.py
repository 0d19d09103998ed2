"""Create the screenshots of docs/screenshots: `python -m tests.browser.screenshots`, in about two minutes.

They show real runs on the local stack: Azurite, the provider emulator, and a host with the agents of `agents/`.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from dev import azurite, stack
from dev.processes import interrupt_on_sigterm
from tests.browser.chromium import chromium

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
SHAPES: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "dark"},
    "narrow": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
}
OVER = {"completed", "failed", "cancelled", "incomplete", "expired"}
PATIENCE_SECONDS = 180
# The emulator writes a text in this time; the novel of the pictures is long enough to be seen growing.
PACE_SECONDS = "30"
# The model that the agents name, as a deployment would.
MODELS = {"NOVELIST_MODEL": "gpt-5", "ANALYST_MODEL": "gpt-5-mini"}

NOVEL = """\
Write a novel about the first crew that follows a signal into the ocean under the ice of Ganymede.

Three people, one damaged submarine, no way to call home. Keep the physics honest, and let the sea have the last word."""
NOVEL_METADATA = {"reader": "harbour-library", "edition": "first"}
SCARCE = "Is there a market for helium-3 from the Moon?"
REFUNDS = [
    "Order A-1002: the chair arrived broken. Please refund 80 euros.",
    "Order A-1004: the desk came two weeks late. Please refund 120 euros.",
]
UNSAFE = "Weigh the market for unlicensed launch sites."
FAULTS = [
    {"kind": "status", "operation": "create", "contains": SCARCE, "status": 429, "retry_after": 6},
    {"kind": "status", "operation": "create", "contains": UNSAFE, "status": 403, "times": 0},
]


@dataclass(frozen=True)
class Api:
    base: str
    key: str

    def call(self, method: str, path: str, body: object = None) -> Any:
        headers = {"x-functions-key": self.key, "content-type": "application/json"}
        return _send(method, f"{self.base}/api/{path}", body, headers)

    def start(self, agent: str, text: str, **settings: Any) -> str:
        return str(self.call("POST", "runs", {"agent": agent, "input": text} | settings)["id"])

    def wait_for(self, run_id: str, enough: Callable[[dict[str, Any]], bool]) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not enough(run := self.call("GET", f"runs/{run_id}")):
            if time.monotonic() > end:
                raise TimeoutError(f"{run_id} is still {run['status']}")
            time.sleep(0.5)


def main() -> None:
    interrupt_on_sigterm()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with ExitStack() as running:
        api = _start_stack(running)
        finished = _earlier_runs(api)
        novel = api.start("space_novelist", NOVEL, metadata=NOVEL_METADATA)
        browser = running.enter_context(chromium())
        pages = {name: _open(browser, api, shape) for name, shape in SHAPES.items()}
        api.wait_for(novel, lambda run: any(call["started_at"] for call in run["tool_calls"]))
        for name, page in pages.items():
            _draw_list(page, name)
        api.wait_for(novel, _ended)
        for name, page in pages.items():
            _draw_run(page, name, novel)
        for text in REFUNDS:
            refund = api.start("refund_clerk", text)
            api.wait_for(refund, lambda run: run["status"] == "requires_action")
        for name, page in pages.items():
            _draw_waits(page, name)
        print(f"{len(finished) + len(REFUNDS) + 1} runs, {3 * len(pages)} pictures in {FOLDER}")


def _start_stack(running: ExitStack) -> Api:
    storage, connection = azurite.start()
    running.enter_context(storage)
    provider, emulator = stack.start_provider("--pace", PACE_SECONDS)
    running.enter_context(provider)
    for fault in FAULTS:
        _send("POST", f"{emulator.removesuffix('/v1')}/_emulator/faults", fault)
    host, base = stack.start_host(stack.environment(connection, emulator, **MODELS))
    running.enter_context(host)
    return Api(base, stack.keys().host)


def _earlier_runs(api: Api) -> list[str]:
    """Start runs that end in different ways, and wait until they have."""
    started = [
        api.start("market_analyst", "Is there a market for water from asteroids before 2040?"),
        api.start("market_analyst", UNSAFE),
        api.start(
            "space_novelist", "A short novel about a lighthouse on a comet", metadata={"edition": "pocket"}
        ),
        api.start("market_analyst", SCARCE, metadata={"desk": "energy"}),
        api.start("space_novelist", "A novel about the last gardener of a generation ship"),
    ]
    api.wait_for(started[-1], lambda run: any(call["started_at"] for call in run["tool_calls"]))
    api.call("POST", f"runs/{started[-1]}/cancel")
    api.wait_for(started[-1], _ended)
    try:
        started.append(str(api.call("POST", f"runs/{started[-1]}/retry")["id"]))
    except urllib.error.HTTPError as error:
        # A host without retries has one run less to show.
        if error.code != HTTPStatus.NOT_FOUND:
            raise
    for run_id in started:
        api.wait_for(run_id, _ended)
    return started


def _ended(run: dict[str, Any]) -> bool:
    return run["status"] in OVER


def _open(browser: Browser, api: Api, shape: dict[str, Any]) -> Page:
    page = browser.new_page(**shape, reduced_motion="reduce")
    page.goto(f"{api.base}/api/dashboard#key={api.key}")
    return page


def _draw_list(page: Page, name: str) -> None:
    page.locator("#rows tr").nth(4).wait_for()
    page.locator("#rows tr").first.get_by_text("running").wait_for()
    page.screenshot(path=FOLDER / f"list-{name}.png")


def _draw_run(page: Page, name: str, run_id: str) -> None:
    page.evaluate("to => { location.hash = to }", f"#/runs/{run_id}")
    page.locator("#text.formatted").wait_for()
    page.screenshot(path=FOLDER / f"run-{name}.png")


def _draw_waits(page: Page, name: str) -> None:
    """Draw what waits for an approval, and a change that somebody is about to send."""
    page.evaluate("location.hash = '#/'")
    card = page.locator("#waits .wait").first
    card.get_by_role("button", name="Change and approve").click()
    box = card.get_by_role("textbox", name="Changed arguments")
    box.fill(box.input_value().replace("80", "65"))
    card.get_by_role("button", name="Review the change").click()
    card.locator("ins").wait_for()
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=FOLDER / f"waits-{name}.png")


def _send(method: str, url: str, body: object, headers: dict[str, str] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.loads(reply.read())


if __name__ == "__main__":
    main()
