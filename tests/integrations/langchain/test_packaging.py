"""Importing the adapters is light and quiet, and says what is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import evomem_integrations.langchain
import evomem_integrations.langgraph
from evomem.errors import MissingExtra


class Missing:
    """A finder for a package that is not installed."""

    def __init__(self, package):
        self.package = package

    def find_spec(self, name, path=None, target=None):
        if name == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


MODULES = [evomem_integrations.langchain, evomem_integrations.langgraph]


@pytest.mark.parametrize(
    ("module", "name", "missing", "extra"),
    [
        (evomem_integrations.langchain, "EvoMemRetriever", "langchain_core", "langchain"),
        (evomem_integrations.langchain, "EvoMemMiddleware", "langchain", "langchain"),
        (evomem_integrations.langgraph, "EvoMemStore", "langgraph", "langgraph"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, module, name, missing, extra):
    for loaded in [item for item in sys.modules if item.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(sys, "meta_path", [Missing(missing), *sys.meta_path])
    with pytest.raises(MissingExtra, match=rf"pip install -e '\.\[{extra}\]'"):
        getattr(module, name)


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_there_and_no_other(module):
    assert all(getattr(module, name).__name__ == name for name in module.__all__)
    with pytest.raises(AttributeError, match="Nothing"):
        module.Nothing  # noqa: B018


def test_importing_everything_warns_of_nothing():
    code = (
        "from evomem_integrations import langchain, langgraph\n"
        "import sys; assert 'langchain_core' not in sys.modules\n"
        "[getattr(m, n) for m in (langchain, langgraph) for n in m.__all__]"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
