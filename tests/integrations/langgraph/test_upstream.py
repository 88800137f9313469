"""LangGraph's tests of its own stores, run against ours from a checkout ($EVOMEM_LANGGRAPH)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

CHECKOUT = os.environ.get("EVOMEM_LANGGRAPH")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHECKOUT is None, reason="$EVOMEM_LANGGRAPH names no LangGraph checkout"),
]

INSIDE = "it looks into SqliteStore's own SQL"
ASYNC = {"test_no_running_loop": "sync calls are allowed beside a running loop"}
NOT_OURS = {
    "test_vector_store_initialization": "it looks into SqliteStore's own attributes",
    "test_nonnull_migrations": INSIDE,
    "test_escape_glob_literal": INSIDE,
    "test_namespace_match_pattern": INSIDE,
    "test_list_namespaces_prefix_uses_indexable_condition": INSIDE,
    "test_sql_injection_vulnerability": "any filter key will do: none becomes SQL",
    "test_ttl_override_default": "SqliteStore refreshes on read only if told, unlike its TTLConfig says",
}


@pytest.mark.parametrize(
    ("project", "name", "left_out", "passing"),
    [
        ("checkpoint", "test_store.py", {}, 24),
        ("checkpoint-sqlite", "test_store.py", NOT_OURS, 58),
        ("checkpoint-sqlite", "test_async_store.py", ASYNC, 27),
        ("checkpoint-sqlite", "test_ttl.py", NOT_OURS, 10),
    ],
)
def test_our_store_passes_langgraphs_tests_of_its_own(project, name, left_out, passing, tmp_path):
    pytest.importorskip("pytest_mock", reason="LangGraph's tests need pytest-mock")
    tests = Path(str(CHECKOUT)) / "libs" / project / "tests"
    shutil.copytree(tests, tmp_path / "tests")  # alone: beside its package it would import that
    shutil.copy(Path(__file__).with_name("rebound.py"), tmp_path)
    roots = [str(tmp_path), *(str(ROOT / name) for name in (".", "stores", "integrations"))]
    options = "-q -p rebound -p no:cacheprovider -o asyncio_mode=auto -o markers=flaky".split()
    chosen = ["-k", " and ".join(f"not {item}" for item in left_out)] if left_out else []
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *chosen, f"tests/{name}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(roots)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    [passed] = re.findall(r"^(\d+) passed", done.stdout, re.MULTILINE)
    assert int(passed) >= passing, done.stdout[-3000:]
