"""Where in an author's files something is wrong."""

import traceback
from pathlib import Path
from typing import Any

from shared.agent import Tool


def place_of_error(error: BaseException, folder: Path) -> str:
    """Return the file and the line of `folder` that raised an error, as in "agents/reviewer.py, line 12"; or ""."""
    if isinstance(error, SyntaxError) and error.filename:
        return _place(Path(error.filename), error.lineno or 0, folder)
    frames = traceback.extract_tb(error.__traceback__)
    places = [_place(Path(frame.filename), frame.lineno or 0, folder) for frame in frames]
    return next((place for place in reversed(places) if place), "")


def place_of_tool(tool: Tool[..., Any]) -> str:
    """Return the file and the line where the function of a tool begins."""
    code = tool.function.__code__
    path = Path(code.co_filename)
    return f"{path.parent.name}/{path.name}, line {code.co_firstlineno}"


def _place(path: Path, line: int, folder: Path) -> str:
    try:
        inside = path.resolve().relative_to(folder.resolve())
    except ValueError:
        return ""
    return f"{folder.name}/{inside.as_posix()}, line {line}"
