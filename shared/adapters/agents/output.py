"""The output type of an agent: its schema for the provider, and the check of an answer.

Import this module only for an agent that has one: it imports pydantic, which is slow.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from shared.adapters.agents.schema import NotStrict, strict_schema
from shared.agent import Agent
from shared.core.limits import MAX_OUTPUT_MARKS
from shared.core.structure import has_more_marks, read_json
from shared.core.text import clipped, is_name

_MAX_REASON_CHARACTERS = 500


class OutputType:
    """An agent's output type. Raises TypeError when a provider cannot be told its schema."""

    def __init__(self, agent: Agent) -> None:
        kind = agent.output_type
        if not isinstance(kind, type) or not issubclass(kind, BaseModel):
            raise TypeError(
                f"Agent {agent.name}: its output_type must be a pydantic model, a subclass of BaseModel"
            )
        self._kind = kind
        try:
            schema = strict_schema(kind.model_json_schema())
        except NotStrict as error:
            raise TypeError(
                f"Agent {agent.name}: its output_type {kind.__name__} has {error}, which a provider cannot guarantee"
            ) from None
        except Exception as error:  # a model may raise anything when its schema is made
            raise TypeError(
                f"Agent {agent.name}: its output_type {kind.__name__} has no JSON schema: {error}"
            ) from error
        name = kind.__name__ if is_name(kind.__name__) else "output"
        self.format = {"type": "json_schema", "name": name, "schema": schema, "strict": True}

    def options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of an agent with its output type."""
        text = options.get("text")
        return {**options, "text": {**(text if isinstance(text, Mapping) else {}), "format": self.format}}

    def fault(self, text: str) -> str | None:
        """Return why the text of an answer does not fit: a sentence. None when it fits."""
        if has_more_marks(text.encode(), MAX_OUTPUT_MARKS):
            return f"The answer has more than {MAX_OUTPUT_MARKS:,} brackets and commas."
        try:
            read_json(text)
            self._kind.model_validate_json(text)
        except RecursionError:
            return "The answer is nested too deeply."
        except ValidationError as error:
            return _reason(error)
        except ValueError:
            return "The answer is not JSON."
        except Exception as error:  # noqa: BLE001 - a validator of the model may raise anything
            return f"A check of the answer raised {type(error).__name__}."
        return None


def _reason(error: ValidationError) -> str:
    """Return the first fault. The answer itself is not repeated."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"])) or "it"
    own = first["type"] in {"value_error", "assertion_error"}
    why = f"a check of this value raised {first['type']}" if own else first["msg"]
    return clipped(f"The answer does not fit the output type: {place}: {why}.", _MAX_REASON_CHARACTERS)
