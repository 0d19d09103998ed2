from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dev import stack
from dev.provider.model import ModelMissingError, model_file
from shared.adapters.agents.discover import discover, placeholders
from tests.e2e.site import ROOT, SCRIPTED, Site

NewSite = Callable[..., Site]


@pytest.fixture(scope="session")
def provider() -> Iterator[str]:
    """The provider emulator, which writes as fast as it can."""
    child, base = stack.start_provider("--pace", "0")
    with child:
        yield base


@pytest.fixture(scope="module")
def llamacpp() -> Iterator[str]:
    """The base address of llama.cpp's server. Tests that need it are skipped where it is not installed."""
    try:
        model_file()
    except ModelMissingError as missing:
        pytest.skip(f"not installed, so nothing was run at llama.cpp: {missing}")
    child, base = stack.start_model()
    with child:
        yield base


@pytest.fixture
def new_site(
    connection_string: str, provider: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NewSite]:
    """Returns a function that deploys an app without hosts. Its keyword arguments are settings.

    The agents are those of the tests, or those of another folder.
    """
    sites: list[Site] = []

    def new(agents: Path = SCRIPTED, **settings: str) -> Site:
        sites.append(Site(tmp_path_factory.mktemp("site"), connection_string, provider, settings, agents))
        return sites[-1]

    yield new
    for site in sites:
        site.close()


@pytest.fixture
def site(new_site: NewSite) -> Site:
    """A deployed app with one host."""
    made = new_site()
    made.add_host()
    return made


@pytest.fixture
def own_site(new_site: NewSite) -> Site:
    """The app with the agents of agents/ and one host. Each setting that a model names has a value."""
    made = new_site(ROOT / "agents", **dict.fromkeys(placeholders(discover()), "emulated"))
    made.add_host()
    return made
