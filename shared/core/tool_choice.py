"""Which tools the model may or must call: the option `tool_choice` of a request, in the turns after the first.

A choice that forces a tool call would force one in every turn, and the model could never answer.
"""

from collections.abc import Mapping

_FREE = (None, "auto", "none")


def after_outputs(options: Mapping[str, object]) -> Mapping[str, object]:
    """Return the options of an agent for a turn that begins with the outputs of tools."""
    if "tool_choice" not in options:
        return options
    return {**options, "tool_choice": _free(options["tool_choice"])}


def _free(choice: object) -> object:
    """Return a choice that forces no tool. The set of tools that the model may call stays the same."""
    if not isinstance(choice, Mapping):
        return choice if choice in _FREE else "auto"
    if choice.get("type") == "allowed_tools":
        return _free_mode(choice)
    return choice if choice.get("type") in _FREE else "auto"


def _free_mode(allowed: Mapping[str, object]) -> Mapping[str, object]:
    """Return allowed tools without a forced mode. Some SDKs put the mode and the tools into an object of their own."""
    freed = dict(allowed)
    if allowed.get("mode") not in _FREE:
        freed["mode"] = "auto"
    if isinstance(nested := allowed.get("allowed_tools"), Mapping):
        freed["allowed_tools"] = _free_mode(nested)
    return freed
