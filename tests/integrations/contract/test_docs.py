"""docs/guides/adapters.md shows what the tests say."""

from __future__ import annotations

import inspect
import json
import re

from packaging.requirements import Requirement

from evomem.adapter.contract import CASES, AdapterContract
from tests.conftest import ROOT
from tests.integrations import versions
from tests.integrations.contract.table import ADAPTERS, PAGE, page


def test_the_table_says_what_the_tests_do():
    """Write it anew with `python -m tests.integrations.contract.table`."""
    text = PAGE.read_text("utf-8")
    assert text == page(text)


def test_the_versions_are_those_of_the_last_run_with_the_newest():
    """Written by `make test-newest`."""
    text = PAGE.read_text("utf-8")
    installed = json.loads(versions.LOCK.read_text("utf-8"))
    assert text == versions.page(text, installed)
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    for name, extra in versions.PACKAGES.items():
        [wanted] = re.findall(rf'^{extra} = \["({name}[^"]*)"', project, re.MULTILINE)
        assert Requirement(wanted).specifier.contains(installed[name]), wanted


def test_every_case_is_one_test_and_every_reason_belongs_to_a_case():
    tests = [name for name in vars(AdapterContract) if name.startswith("test_")]
    needed = [
        re.findall(r'self\._needs\("(\w+)"\)', inspect.getsource(getattr(AdapterContract, name)))
        for name in tests
    ]
    assert needed == [[case] for case in CASES]
    for reasons in ADAPTERS.values():
        assert set(reasons) <= set(CASES)
