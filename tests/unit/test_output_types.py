"""Agents whose answers are JSON of a pydantic model."""

import json
from collections.abc import Callable
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, field_validator

from shared.adapters.agents.discover import InvalidAgents
from shared.adapters.agents.running import InstalledAgents
from shared.agent import Agent
from shared.core.limits import MAX_OUTPUT_MARKS


class Place(BaseModel):
    file: str
    line: int = Field(ge=1)


class Finding(BaseModel):
    """What broke."""

    title: str
    severity: Literal["low", "high"]
    places: list[Place] = []
    note: str | None = None

    @field_validator("title")
    @classmethod
    def short(cls, title: str) -> str:
        if "secret" in title:
            raise ValueError(f"no {title} allowed")
        return title


GOOD = {"title": "A", "severity": "low", "places": [{"file": "a.py", "line": 3}], "note": None}


def agent(output_type: Any = Finding, **fields: Any) -> Agent:
    return Agent(name="reviewer", model="m", instructions="i", output_type=output_type, **fields)


def installed(*agents: Agent) -> InstalledAgents:
    found = InstalledAgents({each.name: each for each in agents}, {})
    found.check()
    return found


def test_the_provider_is_told_the_strict_schema():
    spec = installed(agent(options={"text": {"verbosity": "low"}, "temperature": 0})).spec("reviewer")
    assert spec is not None
    assert (spec.structured, spec.options["temperature"]) == (True, 0)
    text: Any = spec.options["text"]
    assert text["verbosity"] == "low"
    format_ = text["format"]
    assert (format_["type"], format_["name"], format_["strict"]) == ("json_schema", "Finding", True)
    schema = format_["schema"]
    assert schema["required"] == ["title", "severity", "places", "note"]
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Place"]["required"] == ["file", "line"]
    json.dumps(spec.options)


def test_an_agent_without_one_is_as_before():
    found = installed(Agent(name="a", model="m", instructions="i", options={"x": 1}))
    spec = found.spec("a")
    assert spec is not None
    assert (spec.structured, dict(spec.options)) == (False, {"x": 1})
    assert found.fault_of_output("a", "no JSON") is None
    assert found.fault_of_output("nobody", "no JSON") is None


class Loose(BaseModel):
    values: dict[str, int]


class Anything(BaseModel):
    value: Any


class Odd(BaseModel):
    call: Callable[[], int]


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Loose, "an object whose names are not known"),
        (Anything, "a value of any type"),
        (Odd, "has no JSON schema"),
        (dict, "must be a pydantic model"),
        ("Finding", "must be a pydantic model"),
        (Finding(title="a", severity="low"), "must be a pydantic model"),
    ],
    ids=str,
)
def test_a_type_that_cannot_be_guaranteed_keeps_the_app_from_starting(kind, why):
    with pytest.raises(InvalidAgents, match=f"Agent reviewer: its output_type.*{why}"):
        installed(agent(kind))


def test_two_formats_are_refused():
    with pytest.raises(ValueError, match=r"text\.format beside output_type"):
        agent(options={"text": {"format": {"type": "text"}}})


def fault(text: str) -> str | None:
    return installed(agent()).fault_of_output("reviewer", text)


def test_an_answer_that_fits_has_no_fault():
    assert fault(json.dumps(GOOD)) is None
    assert fault(" " + json.dumps(GOOD, indent=2) + "\n") is None


BAD = {
    "no JSON": ("I found nothing.", "The answer is not JSON."),
    "nothing": ("", "The answer is not JSON."),
    "cut": (json.dumps(GOOD)[:-5], "The answer is not JSON."),
    "a list": ("[]", "does not fit the output type: it: "),
    "a value that is not allowed": (json.dumps(GOOD | {"severity": "medium"}), "severity: "),
    "a value of another type": (
        json.dumps(GOOD | {"places": [{"file": "a", "line": "x"}]}),
        "places.0.line: ",
    ),
    "a missing value": (json.dumps({"severity": "low"}), "title: Field required"),
    "a key twice": ('{"title": "a", "title": "b", "severity": "low"}', "not JSON"),
    "an infinite number": ('{"title": 1e999, "severity": "low"}', "not JSON"),
    "NaN": ('{"title": NaN, "severity": "low"}', "not JSON"),
    "nested": ("[" * 100_000, "nested too deeply"),
    "much structure": ('{"title": [' + "[]," * MAX_OUTPUT_MARKS + "0]}", "200,000 brackets and commas"),
    "an own check": (
        json.dumps(GOOD | {"title": "a secret of mine"}),
        "title: a check of this value raised value_error",
    ),
}


@pytest.mark.parametrize(("text", "why"), BAD.values(), ids=BAD)
def test_an_answer_that_does_not_fit_has_a_reason_without_its_text(text, why):
    found = fault(text)
    assert found is not None
    assert why in found
    assert "secret" not in found
    assert len(found) <= 500


class Hostile(BaseModel):
    title: str

    @field_validator("title")
    @classmethod
    def broken(cls, _title: str) -> str:
        raise RuntimeError("a secret")


def test_a_check_that_raises_anything_is_named_by_its_type():
    found = installed(agent(Hostile)).fault_of_output("reviewer", '{"title": "a"}')
    assert found == "A check of the answer raised RuntimeError."
