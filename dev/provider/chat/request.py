"""A request for a chat completion: its checks, its conversation, and the answer that it wants continued."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dev.provider.checks import check_type
from dev.provider.conversation import check_conversation
from dev.provider.plan import Plan, make_plan
from dev.provider.tools import check_tools
from dev.provider.wire import ApiError, Json

# Parameter: the kinds of JSON value that it takes beside null.
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "add_generation_prompt": ("boolean",),
    "continue_final_message": ("boolean",),
    "frequency_penalty": ("number",),
    "max_completion_tokens": ("integer",),
    "max_tokens": ("integer",),
    "messages": ("array",),
    "metadata": ("object",),
    "model": ("string",),
    "n": ("integer",),
    "parallel_tool_calls": ("boolean",),
    "presence_penalty": ("number",),
    "reasoning_effort": ("string",),
    "response_format": ("object",),
    "seed": ("integer",),
    "stop": ("string", "array"),
    "stream": ("boolean",),
    "stream_options": ("object",),
    "temperature": ("number",),
    "tool_choice": ("string", "object"),
    "tools": ("array",),
    "top_p": ("number",),
    "user": ("string",),
}
_ROLES = ("system", "developer", "user", "assistant", "tool")
_MARKS = ("prefix", "partial")


@dataclass(frozen=True)
class ChatTurn:
    """What a request asks for. `prefix`: the text to continue; None begins an answer."""

    request: Json
    conversation: list[Json]
    plan: Plan
    prefix: str | None

    @property
    def wants_usage(self) -> bool:
        return (self.request.get("stream_options") or {}).get("include_usage") is True


def read_request(request: Any) -> ChatTurn:
    """Raises ApiError for the first fault of a request."""
    _check(request)
    messages: list[Json] = request["messages"]
    prefix = _prefix(request, messages)
    conversation = chat_items(messages if prefix is None else messages[:-1])
    check_conversation((), conversation)
    tools = [{"strict": False, "type": "function", **tool["function"]} for tool in request.get("tools") or ()]
    check_tools(tools)
    plan = make_plan({"tools": tools, "stream": request.get("stream") is True}, conversation)
    return ChatTurn(request, conversation, plan, prefix)


def chat_items(messages: Sequence[Any]) -> list[Json]:
    """Return chat messages as the input items of a response."""
    return [item for message in messages if isinstance(message, dict) for item in _items(message)]


def _items(message: Json) -> Iterator[Json]:
    content = message.get("content")
    if message.get("role") == "tool":
        output = content if isinstance(content, str | list) else ""
        yield {"type": "function_call_output", "call_id": message.get("tool_call_id", ""), "output": output}
        return
    if content is not None:
        yield {"type": "message", "role": message.get("role"), "content": content}
    for call in message.get("tool_calls") or ():
        yield {"type": "function_call", "call_id": call.get("id", ""), **call.get("function", {})}


def _check(request: Any) -> None:
    if not isinstance(request, dict):
        raise ApiError(400, "Invalid request body: expected a JSON object.")
    for name, value in request.items():
        if name not in _PARAMETERS:
            raise ApiError(400, f"Unknown parameter: '{name}'.", name, "unknown_parameter")
        check_type(name, value, _PARAMETERS[name])
    for name in ("model", "messages"):
        if not request.get(name):
            message = f"Missing required parameter: '{name}'."
            raise ApiError(400, message, name, "missing_required_parameter")
    if request.get("tools") == []:
        raise ApiError(400, "Invalid 'tools': empty array. Expected an array with minimum length 1.", "tools")
    if request.get("stream_options") and not request.get("stream"):
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise ApiError(400, message, "stream_options")
    for index, each in enumerate(request["messages"]):
        _check_message(f"messages[{index}]", each)
    for index, tool in enumerate(request.get("tools") or ()):
        check_type(f"tools[{index}]", tool, ("object",), nullable=False)
        check_type(f"tools[{index}].function", tool.get("function"), ("object",), nullable=False)


def _check_message(at: str, message: Any) -> None:
    check_type(at, message, ("object",), nullable=False)
    role = message.get("role")
    if role not in _ROLES:
        raise ApiError(
            400, f"Invalid value: '{role}'. Supported values are: {', '.join(_ROLES)}.", f"{at}.role"
        )
    check_type(f"{at}.content", message.get("content"), ("string", "array"), nullable=role == "assistant")
    check_type(f"{at}.tool_calls", message.get("tool_calls"), ("array",))
    for number, call in enumerate(message.get("tool_calls") or ()):
        place = f"{at}.tool_calls[{number}]"
        check_type(place, call, ("object",), nullable=False)
        check_type(f"{place}.id", call.get("id"), ("string",), nullable=False)
        check_type(f"{place}.function", call.get("function"), ("object",), nullable=False)
        for name in ("name", "arguments"):
            check_type(f"{place}.function.{name}", call["function"].get(name), ("string",), nullable=False)


def _prefix(request: Json, messages: Sequence[Json]) -> str | None:
    """Return the text of the last message if it is the begin of the answer."""
    for index, each in enumerate(messages):
        marks = [mark for mark in _MARKS if each.get(mark)]
        if marks and (index < len(messages) - 1 or each["role"] != "assistant"):
            message = f"The last message must be of the assistant to have '{marks[0]}'."
            raise ApiError(400, message, f"messages[{index}].{marks[0]}")
    last = messages[-1]
    begun = last["role"] == "assistant" and not last.get("tool_calls")
    if request.get("continue_final_message"):
        if request.get("add_generation_prompt", True):
            message = "Cannot set both `continue_final_message` and `add_generation_prompt` to True."
            raise ApiError(400, message, "continue_final_message")
        if not begun:
            raise ApiError(400, "The final message is not of the assistant.", "continue_final_message")
    if not begun:
        return None
    content = last.get("content") or ""
    return content if isinstance(content, str) else "".join(str(part.get("text", "")) for part in content)
