"""Why the host does not start."""

import sys
import traceback
from collections.abc import Iterable
from pathlib import Path


class StartupError(Exception):
    """The host cannot start; the text lists every problem, one a line. `trace` shows where in the app it happened."""

    def __init__(self, text: str, trace: str = "") -> None:
        super().__init__(text)
        self.trace = trace

    @classmethod
    def of(cls, problems: Iterable[str]) -> "StartupError":
        return cls("\n".join(f"- {problem}" for problem in problems))

    @classmethod
    def of_import(cls, error: BaseException, app: Path) -> "StartupError":
        """Describe the error that ended the import of an app."""
        if isinstance(error, ImportError) and isinstance(error.__context__, type(error)):
            error = error.__context__  # the library raises it once more, with the search path in its message
        if _is_own(error, app):
            # The app refuses to start, and its message is for people.
            return cls(str(error), _trace(error.__cause__, app) if error.__cause__ else "")
        place = _place(error, app)
        message = error.msg if isinstance(error, SyntaxError) else str(error)
        sentence = f"{type(error).__name__}: {message}".removesuffix(": ")
        return cls(f"{place}: {sentence}" if place else sentence, _trace(error, app))


def _is_own(error: BaseException, app: Path) -> bool:
    """Return whether the class of an error is one of the app's."""
    module = sys.modules.get(type(error).__module__)
    return bool(_inside(getattr(module, "__file__", None), app))


def _place(error: BaseException, app: Path) -> str:
    """Return the last place in the app's files, as in "shared/app.py, line 12"; or ""."""
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        places.append((error.filename or "", error.lineno))
    for name, line in reversed(places):
        if inside := _inside(name, app):
            return f"{inside}, line {line}"
    return ""


def _trace(error: BaseException, app: Path) -> str:
    """Return the trace of an error, or "" if it shows nothing of the app."""
    trace = "".join(traceback.format_exception(error))
    return trace if str(app) in trace else ""


def _inside(name: str | None, app: Path) -> str:
    """Return the name of a file relative to the app; "" for a file of another folder."""
    path = Path(name or "")
    return path.relative_to(app).as_posix() if name and path.is_relative_to(app) else ""
