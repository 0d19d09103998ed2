"""The clerk that ships: what needs an approval, and that the shop pays once for each key."""

from pathlib import Path

import pytest

from agents import shop
from agents.refund_clerk import lookup_order, refund, refund_clerk
from shared.adapters.agents.running import InstalledAgents
from shared.agent import IdempotencyKey, ToolError
from shared.core.calls import ToolCall

KEY, OTHER = IdempotencyKey("run_1-2-call_1"), IdempotencyKey("run_1-2-../../call_2")


@pytest.fixture(autouse=True)
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the refunds. It does not exist before the first one."""
    folder = tmp_path / "refunds"
    monkeypatch.setenv("REFUNDS_FOLDER", str(folder))
    return folder


def paid(books: Path) -> int:
    return len([*books.rglob("*.json")])


@pytest.mark.parametrize(
    ("euros", "waits"),
    [("50", False), ("50.0", False), ("50.01", True), ("1e9", True), ('"60"', True), ("-1", False)],
)
async def test_more_than_fifty_euros_need_an_approval(euros: str, waits: bool) -> None:
    agents = InstalledAgents({"refund_clerk": refund_clerk}, {"CLERK_MODEL": "m"})
    agents.check()
    call = ToolCall("c", "refund", f'{{"order": "A-1002", "euros": {euros}}}')
    assert bool((await agents.waits("refund_clerk", [call]))["c"]) is waits


async def test_it_is_not_ready_without_its_model() -> None:
    spec = InstalledAgents({"refund_clerk": refund_clerk}, {}).spec("refund_clerk")
    assert spec is not None
    assert spec.missing_settings == ("CLERK_MODEL",)


def test_a_key_pays_once(books: Path) -> None:
    for _ in range(2):
        assert refund("A-1002", 120, KEY) == "120.00 euros of order A-1002 were refunded."
    assert (paid(books), lookup_order("A-1002")["refunded"]) == (1, 120)
    refund("A-1002", 9.5, OTHER)
    assert (paid(books), lookup_order("A-1002")["refunded"]) == (2, 129.5)
    for _ in range(2):
        assert refund("A-1003", 24.5, KEY) == "24.50 euros of order A-1003 were refunded."
    assert paid(books) == 3
    assert all(file.parent.parent == books for file in books.rglob("*.json"))


@pytest.mark.parametrize("euros", [0, -1, 249.01, float("nan"), float("inf")])
def test_no_more_is_paid_back_than_was_paid(books: Path, euros: float) -> None:
    with pytest.raises(ToolError, match=r"of order A-1002 cannot be refunded: 249\.00 are left"):
        refund("A-1002", euros, KEY)
    assert paid(books) == 0
    refund("A-1002", 200, KEY)
    with pytest.raises(ToolError, match=r"49\.00 are left"):
        refund("A-1002", 50, OTHER)


@pytest.mark.parametrize("number", ["A-9999", "../../../etc", ""])
def test_an_unknown_order_is_said(books: Path, number: str) -> None:
    for use in (lambda: lookup_order(number), lambda: refund(number, 1, KEY)):
        with pytest.raises(ToolError, match="There is no order"):
            use()
    assert not books.exists()


def test_without_a_folder_refunds_are_temporary_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("REFUNDS_FOLDER")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    shop.refund("A-1001", 1, KEY)
    assert paid(tmp_path / "baton-refunds") == 1
