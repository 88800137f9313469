"""Imports point one way, importing does nothing, and the public names are a list."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache

import pytest

import evomem
import evomem.errors
from tests.conftest import ROOT

ROOTS = {
    "evomem": ROOT / "evomem",
    "evomem_stores": ROOT / "stores" / "evomem_stores",
    "evomem_integrations": ROOT / "integrations" / "evomem_integrations",
    "benchmarks": ROOT / "benchmarks",
}
ALLOWED = {
    "evomem": {"evomem"},
    "evomem_stores": {"evomem", "evomem_stores"},
    "evomem_integrations": {"evomem", "evomem_integrations"},
    "benchmarks": {"evomem", "evomem_stores", "evomem_integrations", "benchmarks"},
}

ROOMS = ("database", "words", "log", "vectors", "upkeep")
"""Of the store, from the bottom up: each may import what stands before it."""


@cache
def tree_of(path):
    return ast.parse(path.read_text("utf-8"))


@cache
def nodes_of(path):
    """Return the nodes of a module that the tests look at."""
    kinds = (ast.Import, ast.ImportFrom, ast.keyword, ast.Call)
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, kinds)]


def imported(path):
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def in_type_checking(path, module):
    """Return whether a module is imported only for annotations."""
    return any(
        isinstance(node, ast.If)
        and ast.unparse(node.test) == "TYPE_CHECKING"
        and any(isinstance(inner, ast.ImportFrom) and inner.module == module for inner in node.body)
        for node in tree_of(path).body
    )


@pytest.mark.parametrize("package", ROOTS)
def test_imports_point_one_way(package):
    for path in ROOTS[package].rglob("*.py"):
        ours = {name.partition(".")[0] for name in imported(path)} & {*ROOTS, "tests"}
        assert ours <= ALLOWED[package], f"{path} imports {ours - ALLOWED[package]}"


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_of_the_store_import_only_those_below(room):
    below = ROOMS[: ROOMS.index(room) + 1]
    for path in (ROOTS["evomem_stores"] / room).rglob("*.py"):
        for name in imported(path):
            root, _, module = name.partition(".")
            if root == "evomem_stores":
                assert module.split(".")[0] in below, f"{path} imports {name}"


@pytest.mark.parametrize(
    ("room", "above"),
    [
        ("store", {"engine", "search", "times", "importing", "memory", "memory_view"}),
        ("times", {"engine", "search", "importing", "memory", "memory_view"}),
        ("search", {"importing", "memory", "memory_view", "database"}),
        ("importing", {"memory", "memory_view", "database"}),
    ],
)
def test_rooms_of_the_engine_import_nothing_that_is_built_on_them(room, above):
    for path in (ROOTS["evomem"] / room).rglob("*.py"):
        for name in imported(path):
            root, _, module = name.partition(".")
            if root == "evomem" and not in_type_checking(path, name):
                assert module.split(".")[0] not in above, f"{path} imports {name}"


@pytest.mark.parametrize("package", ROOTS)
def test_no_module_unpickles_or_runs_code_from_a_checkpoint(package):
    for path in ROOTS[package].rglob("*.py"):
        names = set(imported(path))
        assert not names & {"pickle", "shelve", "dill", "joblib"}, path
        for node in nodes_of(path):
            if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                assert ast.unparse(node.value) == "False", path
            if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
                called = getattr(node.func, "id", "") or getattr(node.func, "attr", "")
                if called in {"load", "eval", "exec"}:
                    assert ast.unparse(node.func) not in {"torch.load", "eval", "exec"}, path


def test_importing_evomem_and_its_help_brings_no_model_database_or_framework():
    """A fresh process: what is imported here would hide what `import evomem` imports."""
    heavy = "torch transformers faiss sqlalchemy sentence_transformers langchain_core llama_index"
    commands = "rich fastapi evomem.answering evomem.chats evomem.importing evomem.documents"
    code = (
        "import evomem, sys; from evomem.cli.arguments import make_parser; make_parser(); "
        f"print([m for m in {[*heavy.split(), *commands.split()]!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_a_first_search_loads_and_compiles_only_what_it_uses():
    unused = (
        "sqlalchemy.dialects.postgresql regex numpy.ma safetensors evomem.reranking evomem.static"
    )
    code = (
        "import sys, evomem; from evomem.times import date_words\n"
        "with evomem.open(':memory:', 'hash') as db:\n"
        "    db.memory('m').add('I adopted a cat.')\n"
        "    assert db.memory('m').search('Which cat?')\n"
        f"print([m for m in {unused.split()!r} if m in sys.modules])\n"
        "print([pattern for pattern, _ in date_words.ATOMS if 'sub' in vars(pattern)])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]"]


def test_the_public_names_are_all_there_and_none_is_missing():
    assert all(hasattr(evomem, name) for name in evomem.__all__)
    ours = {
        name
        for name, value in vars(evomem).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("evomem")
    }
    assert ours <= set(evomem.__all__)


def test_every_error_is_listed_and_drawn_in_the_tree():
    errors = [n for n, v in vars(evomem.errors).items() if isinstance(v, type)]
    assert sorted(errors) == sorted(evomem.errors.__all__)
    for name in errors:
        assert name in (evomem.errors.__doc__ or "")


def test_a_missing_package_is_named_with_the_extra_that_brings_it():
    from evomem._extras import require

    with pytest.raises(evomem.errors.MissingExtra, match=r"pip install -e '\.\[gpu\]'"):
        require("no_such_package_anywhere", extra="gpu")
