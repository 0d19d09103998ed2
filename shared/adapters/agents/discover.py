"""Find the agents of a package."""

import importlib
import pkgutil
import re
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from shared.adapters.agents.places import place_of_error
from shared.agent import Agent
from shared.errors import CannotStart

AGENTS_PACKAGE = "agents"
SETTING = re.compile(r"%(\w+)%")


class InvalidAgents(CannotStart):
    """Something in the package of agents is wrong."""

    def __init__(self, package: str, faults: Sequence[str]) -> None:
        super().__init__(f"The agents in {package} cannot be used", faults)


def discover(package: str = AGENTS_PACKAGE) -> dict[str, Agent]:
    """Return every `Agent` that the modules of `package` define, by name.

    Raises InvalidAgents, which lists all modules that cannot be imported and all names used twice.
    """
    faults: list[str] = []
    errors: list[Exception] = []
    found: dict[str, tuple[str, Agent]] = {}
    modules, folder = [package], Path(package)
    for name in modules:
        try:
            module = importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - agents may raise anything
            faults.append(_fault(name, error, folder))
            errors.append(error)
            continue
        if name == package:
            folder = Path(next(iter(module.__path__)))
            modules += sorted(each.name for each in pkgutil.iter_modules(module.__path__, f"{package}."))
        for agent in vars(module).values():
            if isinstance(agent, Agent):
                first_module, first = found.setdefault(agent.name, (name, agent))
                if first is not agent:
                    faults.append(f"two agents are called {agent.name}: in {first_module} and in {name}")
    if not found and not faults:
        faults.append("there is none; add a file with `my_agent = Agent(...)` in it")
    if faults:
        raise InvalidAgents(package, faults) from (ExceptionGroup(package, errors) if errors else None)
    return {name: agent for name, (_, agent) in sorted(found.items())}


def placeholders(agents: Mapping[str, Agent]) -> list[str]:
    """Return the names of all settings in the models of the agents."""
    return sorted({name for agent in agents.values() for name in SETTING.findall(agent.model)})


def _fault(module: str, error: BaseException, folder: Path) -> str:
    """Return why a module cannot be imported: the place in the author's file, and a sentence."""
    place = place_of_error(error, folder)
    return f"{place}: {_brief(error)}" if place else f"{module} cannot be imported: {_brief(error)}"


def _brief(error: BaseException) -> str:
    """Return an error's type and message. The source lines of a syntax error are left out."""
    lines = traceback.format_exception_only(error)
    return "".join(line for line in lines if not line.startswith("  ")).strip()
