"""Find the agents of a package, and the providers that it declares."""

import importlib
import pkgutil
import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from shared.adapters.agents.places import place_of_error
from shared.agent import Agent
from shared.errors import CannotStart
from shared.provider import AnyProvider

AGENTS_PACKAGE = "agents"
SETTING = re.compile(r"%(\w+)%")
_T = TypeVar("_T", Agent, AnyProvider)


class InvalidAgents(CannotStart):
    """Something in the package of agents is wrong."""

    def __init__(self, package: str, faults: Sequence[str]) -> None:
        super().__init__(f"The agents in {package} cannot be used", faults)


@dataclass(frozen=True, slots=True)
class Discovered:
    """The agents of a package and the providers that it declares, by name."""

    agents: Mapping[str, Agent]
    providers: Mapping[str, AnyProvider]


def discover(package: str = AGENTS_PACKAGE) -> dict[str, Agent]:
    """Return every `Agent` that the modules of `package` define, by name. Raises InvalidAgents as `discover_all` does."""
    return dict(discover_all(package).agents)


def discover_all(package: str = AGENTS_PACKAGE) -> Discovered:
    """Return every agent and every provider that the modules of `package` define.

    Raises InvalidAgents, which lists all modules that cannot be imported and all names used twice.
    """
    modules, faults, errors = _modules(package)
    agents, providers = _Named[Agent]("agents"), _Named[AnyProvider]("providers")
    for module in modules:
        for each in vars(module).values():
            if isinstance(each, Agent):
                agents.add(each, module)
                if each.provider:
                    providers.add(each.provider, module)
            elif isinstance(each, AnyProvider):
                providers.add(each, module)
    faults += agents.faults + providers.faults
    if not agents.found and not faults:
        faults.append("there is none; add a file with `my_agent = Agent(...)` in it")
    if faults:
        raise InvalidAgents(package, faults) from (ExceptionGroup(package, errors) if errors else None)
    return Discovered(agents.sorted(), providers.sorted())


def _modules(package: str) -> tuple[list[ModuleType], list[str], list[Exception]]:
    """Return the modules of a package, what keeps others from being imported, and the exceptions that they raised."""
    found: list[ModuleType] = []
    faults: list[str] = []
    errors: list[Exception] = []
    names, folder = [package], Path(package)
    for name in names:
        try:
            module = importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - agents may raise anything
            faults.append(_fault(name, error, folder))
            errors.append(error)
            continue
        if name == package:
            folder = Path(next(iter(module.__path__)))
            names += sorted(each.name for each in pkgutil.iter_modules(module.__path__, f"{package}."))
        found.append(module)
    return found, faults, errors


class _Named(Generic[_T]):
    """What was found, by name. The same object may be found in several modules, because they import it."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.found: dict[str, tuple[str, _T]] = {}
        self.faults: list[str] = []

    def add(self, each: _T, module: ModuleType) -> None:
        first_module, first = self.found.setdefault(each.name, (module.__name__, each))
        if first is not each:
            fault = f"two {self._kind} are called {each.name}: in {first_module} and in {module.__name__}"
            self.faults += [fault] if fault not in self.faults else []

    def sorted(self) -> dict[str, _T]:
        return {name: each for name, (_, each) in sorted(self.found.items())}


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
