"""The runner of the cases: each check can fail, and the scripted provider reads requests as a server does."""

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest

from shared.adapters.http.access import Connection
from shared.adapters.http.answer import Answer, NoAnswer
from shared.adapters.http.transport import Pool, Request
from tests.proofs.cases.case import AgentTable, Case, Rule, Step, cases
from tests.proofs.cases.check_requests import CREATE_CHECKS
from tests.proofs.cases.checks import ANSWER_CHECKS, KINDS, RUN_CHECKS, faults
from tests.proofs.cases.play import Outcome, play
from tests.proofs.cases.sent import BASE, CONDITIONS, forces
from tests.proofs.cases.transport import ScriptedTransport

CALL = '{"type": "function_call", "call_id": "c1", "name": "ping", "arguments": "{}"}'
A_CASE = Case(
    name="a_case",
    about="A function is called.",
    agent=AgentTable(functions=("ping",)),
    client=(Step(start="Hello.", name="start"),),
    provider=(Rule(request="read", turn=1, output=f"[{CALL}]"),),
    expect={},
)

# For each check of each kind, what A_CASE is not.
WRONG: Mapping[str, Mapping[str, Any]] = {
    "run": {
        "number": 2,
        "status": ["failed", "expired"],
        "text": "",
        "refusal": "no",
        "turn": 1,
        "incomplete": "max_turns",
        "error": {"code": "x"},
        "calls": ["ping failed"],
        "within": 1,
        "is": {"tool_calls.0.name": "pong"},
        "has": {"output.0.content.0.text": "ill"},
        "ends": {"output_text": "All"},
        "null": ["output_text"],
        "nothing": ["turn"],
    },
    "feed": {"has": ["text.replaced"], "lacks": ["text.delta"], "shows": ["ping!"], "commentary": "x"},
    "create": {
        "number": 3,
        "sends": ["user"],
        "carries": ["user"],
        "leaves_out": ["function_call_output"],
        "chained": False,
        "output": {"call_id": "c2"},
        "is": {"input.0.output": "shut"},
    },
    "provider": {
        "creates": 1,
        "reads": {"most": 1},
        "slices": 1,
        "cancels": {"least": 1},
        "deletes": 1,
        "unknown": 1,
        "headers_of_creates": ["X-None"],
        "headers_of_all": {"Content-Type": "text/plain"},
        "keys": "aaa",
        "never_asks_for": ["/responses/resp_2"],
    },
    "answer": {
        "status": 200,
        "is": {"status": "completed"},
        "has": {"id": "ses_"},
        "null": ["id"],
        "given": ["output"],
        "headers": {"Location": "http://"},
        "headers_list": {"ETag": ["x"]},
        "wakes": True,
        "lacks": ["queued"],
    },
    "effects": {"ping": 2},
    "log": {"warns": ["ping"]},
}
WRONG_OUTPUTS = ({"is": "shut"}, {"has": ["shut"]}, {"has_one_of": ["a", "b"]}, {"lacks": ["open"]})


async def test_each_check_finds_what_is_wrong():
    outcome = await play(A_CASE)
    assert WRONG.keys() == KINDS.keys()
    for kind, tables in WRONG.items():
        for name, wrong in tables.items():
            assert _faults(outcome, kind, {name: wrong}), (kind, name)
    for wrong in WRONG_OUTPUTS:
        assert _faults(outcome, "create", {"output": wrong}), wrong
    assert _faults(replace(outcome, warnings=["agent.odd"]), "log", {"silent": True})
    replayed = json.loads(f'{{"input": [{CALL}, {CALL}]}}')
    transport = outcome.app.transport
    transport.sent.append(replace(transport.of("create")[0], body=replayed))
    assert _faults(outcome, "create", {"one_id_each": True})
    assert _faults(outcome, "create", {"continues": "mcp_approval_request"})


def test_each_check_is_tried():
    assert WRONG["run"].keys() == RUN_CHECKS.keys()
    assert {"of", *WRONG["answer"]} == ANSWER_CHECKS.keys()
    assert {"one_id_each", "continues", *WRONG["create"]} == CREATE_CHECKS.keys()


async def test_nothing_is_wrong_with_what_is_right():
    outcome = await play(A_CASE)
    right = {
        "run": {"status": "completed", "text": "All is well.", "calls": ["ping completed"], "within": 3},
        "create": {"sends": ["function_call_output"], "output": {"call_id": "c1", "is": "open"}},
        "provider": {"creates": 2, "reads": 2, "cancels": 0},
        "effects": {"ping": 1},
        "log": {"silent": True},
    }
    assert faults(replace(A_CASE, expect=right), outcome) == []


def _faults(outcome: Outcome, kind: str, expected: Mapping[str, Any]) -> list[str]:
    of = {"of": "start"} if kind == "answer" else {}
    return faults(replace(A_CASE, expect={kind: {**of, **expected}}), outcome)


def test_a_file_with_a_field_that_does_not_exist_is_refused(tmp_path):
    path = tmp_path / "a.toml"
    for text in ("abuot = 'x'", "[agent]\ntoosl = []", "[[provider]]\nrequest = 'read'\nsasy = 'x'"):
        path.write_text(text)
        with pytest.raises(ValueError, match="has no field"):
            Case.read(path)
    path.write_text("[[client]]\nstart = 'x'\nwait = 1")
    with pytest.raises(ValueError, match="one of"):
        Case.read(path)


def test_all_conditions_and_fields_of_rules_are_used():
    rules = [rule for case in cases().values() for rule in case.provider]
    assert {condition for rule in rules for condition in rule.when} == CONDITIONS.keys()
    for one in fields(Rule):
        assert any(getattr(rule, one.name) != one.default for rule in rules), one.name


def scripted(*rules: Rule) -> ScriptedTransport:
    return ScriptedTransport(Connection(base_url=BASE, api_key="k"), rules, lambda: 0.0)


def a_read(address: str, seconds: float = 10) -> Request:
    return Request(method="GET", url=f"{BASE}/{address}", pool=Pool.POLLS, within=timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("address", "kind", "response_id"),
    [
        ("responses/resp_1", "read", "resp_1"),
        ("responses/resp_%2F%2B%3D%25", "read", "resp_/+=%"),
        ("responses/%E6%9D%B1", "read", "東"),
        ("responses/resp_1?stream=true&starting_after=4", "slice", "resp_1"),
        ("responses/resp/1", "unknown", "resp"),
        ("responses/resp=?x", "read", "resp="),
        ("responses/..", "unknown", ".."),
        ("responses/%2E%2E", "unknown", ".."),
        ("other", "unknown", "v1"),
    ],
)
async def test_an_address_is_read_as_a_server_reads_it(address, kind, response_id):
    transport = scripted()
    answer = await transport.send(a_read(address))
    [sent] = transport.sent
    assert (sent.kind, sent.response_id) == (kind, response_id)
    assert isinstance(answer, Answer)
    assert (answer.status == 404) is (kind == "unknown")


async def test_an_answer_comes_in_time_or_not_at_all():
    transport = scripted(Rule(request="read", slow=15, says="Late."))
    assert isinstance(await transport.send(a_read("responses/r", 10)), NoAnswer)
    assert isinstance(await transport.send(a_read("responses/r", 20)), Answer)


async def test_a_rule_answers_as_often_as_it_says():
    transport = scripted(Rule(request="read", times=2, status=500), Rule(request="read", state="queued"))
    answers = [await transport.send(a_read("responses/r")) for _ in range(4)]
    assert [answer.status for answer in answers if isinstance(answer, Answer)] == [500, 500, 200, 200]


async def test_a_stream_begins_after_the_event_that_the_client_has():
    events = '[{"type": "a", "sequence_number": 1}, {"type": "b", "sequence_number": 2}, {"error": {}}]'
    transport = scripted(Rule(request="slice", events=events))

    class Listening:
        def __init__(self) -> None:
            self.events: list[bytes] = []

        def receive(self, data: bytes) -> None:
            self.events.append(data)

        def patience(self) -> float | None:
            raise AssertionError("the listener of a slice measures real time")

    listener = Listening()
    request = a_read("responses/r?stream=true&starting_after=1")
    assert await transport.listen(request, listener) is None
    assert [json.loads(data) for data in listener.events] == [
        {"type": "b", "sequence_number": 2},
        {"error": {}},
    ]


@pytest.mark.parametrize(
    ("choice", "forced"),
    [
        ("required", True),
        ("auto", False),
        (None, False),
        ({"type": "function", "name": "add"}, True),
        ({"type": "allowed_tools", "mode": "auto", "tools": []}, False),
        ({"type": "allowed_tools", "mode": "required", "tools": []}, True),
    ],
)
def test_a_choice_of_tools_forces_a_call_or_not(choice, forced):
    assert forces(choice) is forced
