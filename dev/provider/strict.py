"""Checks of a create request that the documented service makes and the engine does not."""

from collections.abc import Mapping
from typing import Any

from dev.provider.checks import check_length, check_type
from dev.provider.tools import check_tools
from dev.provider.wire import ApiError, Json

MAX_METADATA_PAIRS = 16
MAX_METADATA_KEY = 64
MAX_METADATA_VALUE = 512
MAX_INPUT_CHARACTERS = 10_485_760

# Parameter: the kinds of JSON value that it takes beside null.
_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "background": ("boolean",),
    "context_management": ("array",),
    "conversation": ("string", "object"),
    "include": ("array",),
    "input": ("string", "array"),
    "instructions": ("string",),
    "max_output_tokens": ("integer",),
    "max_tool_calls": ("integer",),
    "metadata": ("object",),
    "model": ("string",),
    "moderation": ("object",),
    "parallel_tool_calls": ("boolean",),
    "previous_response_id": ("string",),
    "prompt": ("object",),
    "prompt_cache_key": ("string",),
    "prompt_cache_options": ("object",),
    "prompt_cache_retention": ("string",),
    "reasoning": ("object",),
    "safety_identifier": ("string",),
    "service_tier": ("string",),
    "store": ("boolean",),
    "stream": ("boolean",),
    "stream_options": ("object",),
    "temperature": ("number",),
    "text": ("object",),
    "tool_choice": ("string", "object"),
    "tools": ("array",),
    "top_logprobs": ("integer",),
    "top_p": ("number",),
    "truncation": ("string",),
    "user": ("string",),
}
_LIMITS: Mapping[str, tuple[float, float]] = {
    "max_output_tokens": (16, float("inf")),
    "max_tool_calls": (1, float("inf")),
    "temperature": (0, 2),
    "top_logprobs": (0, 20),
    "top_p": (0, 1),
}


def check_request(request: Any) -> None:
    """Raise ApiError for the first fault of a create request, without regard to its conversation."""
    if not isinstance(request, dict):
        raise ApiError(400, "Invalid request body: expected a JSON object.")
    for name, value in request.items():
        if name not in _PARAMETERS:
            raise ApiError(400, f"Unknown parameter: '{name}'.", name, "unknown_parameter")
        check_type(name, value, _PARAMETERS[name])
        _check_limit(name, value)
    for name in ("model", "input"):
        if not request.get(name):
            message = f"Missing required parameter: '{name}'."
            raise ApiError(400, message, name, "missing_required_parameter")
    _check_combinations(request)
    _check_metadata(request.get("metadata") or {})
    check_tools(request.get("tools") or [])
    if isinstance(request["input"], str):
        check_length("input", request["input"], MAX_INPUT_CHARACTERS)


def _check_combinations(request: Json) -> None:
    if request.get("background") and request.get("store") is False:
        raise ApiError(400, "Background responses require 'store' to be true.", "store", "invalid_value")
    if request.get("conversation") and request.get("previous_response_id"):
        message = "Mutually exclusive parameters: 'conversation' and 'previous_response_id'."
        raise ApiError(400, message, code="mutually_exclusive_parameters")
    if request.get("conversation"):
        raise ApiError(404, "The emulator keeps no conversations.", "conversation")
    if request.get("stream_options") and not request.get("stream"):
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise ApiError(400, message, "stream_options", "invalid_value")


def _check_metadata(metadata: Json) -> None:
    if len(metadata) > MAX_METADATA_PAIRS:
        message = (
            f"Invalid 'metadata': too many properties. Expected an object with at most {MAX_METADATA_PAIRS} "
            f"properties, but got an object with {len(metadata)} properties instead."
        )
        raise ApiError(400, message, "metadata", "object_above_max_properties")
    for key, value in metadata.items():
        if len(key) > MAX_METADATA_KEY:
            message = f"Invalid property name in 'metadata': '{key[:MAX_METADATA_KEY]}...' is too long."
            raise ApiError(400, message, "metadata", "property_name_above_max_length")
        check_type(f"metadata.{key}", value, ("string",), nullable=False)
        check_length(f"metadata.{key}", value, MAX_METADATA_VALUE)


def _check_limit(name: str, value: Any) -> None:
    if value is None or name not in _LIMITS:
        return
    low, high = _LIMITS[name]
    kind = "integer" if isinstance(value, int) else "decimal"
    if value < low:
        message = f"Invalid '{name}': {kind} below minimum value. Expected a value >= {low}, but got {value} instead."
        raise ApiError(400, message, name, f"{kind}_below_min_value")
    if value > high:
        message = f"Invalid '{name}': {kind} above maximum value. Expected a value <= {high}, but got {value} instead."
        raise ApiError(400, message, name, f"{kind}_above_max_value")
