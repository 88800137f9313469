"""What docs/guides/filters.md shows, works, and it names every operator and limit."""

from __future__ import annotations

import re

from evomem import where
from tests.conftest import ROOT

PAGE = (ROOT / "docs/guides/filters.md").read_text("utf-8")


def test_the_example_runs():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(code, {})


def test_every_operator_and_limit_is_named():
    for operator in where.OPERATORS:
        assert f'`"{operator}"' in PAGE
    for limit in (where.MAX_TESTS, where.MAX_TOGETHER, where.MAX_LEVELS, where.MAX_DEPTH):
        assert f"{limit:,} " in " ".join(PAGE.partition("**Limits**")[2].split())
