"""Every notebook runs from top to bottom and shows what its text says; what is committed was run."""

from __future__ import annotations

import ast
import json
import os
import re
import sys
from types import ModuleType

import matplotlib
import pytest

from tests.conftest import ROOT
from tests.processes import Forked

FOLDER = ROOT / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
SHOWN = {
    "01_first_steps": ["found: False\non disk: True", "on disk: False", "'reread': 3"],
    "02_how_memory_evolves": [
        "with memory\n  from 03 Mar.*\n  from 27 Mar.*first Thursday.*\n  from 23 Apr.*first Friday",
        "42 turns told: I'm in! Moved to Bristol",
        "what-if.*Lisbon",
    ],
    "03_naive_rag": ["memory: .*The Dispossessed", "There's a wall here too", "31:55"],
    "04_train_on_your_log": ["12/12", r"'bundled': \(\d, 24\), 'trained': \((1[3-9]|2\d), 24\)"],
    "05_longmemeval": [
        r"(?:40|3) conversations, (?:40|3) questions",
        r"evomem/hybrid/mini +k8 +(?:40|3) +(?:9\d|100)\.\d",
    ],
}
"""Patterns of what has to be in a notebook's output."""
SHORTER = {"LIMIT = None": "LIMIT = 3"}  # histories of 05_longmemeval, which has 40


def cells(name, kind):
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text("utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def outputs(name):
    return [out for cell in cells(name, "code") for out in cell["outputs"]]


def printed(name):
    """Return everything that was printed or shown as text in the committed notebook."""
    texts = [out.get("text") or out.get("data", {}).get("text/plain", "") for out in outputs(name)]
    return "".join(line for lines in texts for line in lines)


def run(name):
    """Run the code of a notebook; print what it prints, and the value of every expression.

    The cells are plain Python, so no kernel is needed, and this runs in a fork that has imported PyTorch.
    """
    matplotlib.use("agg")
    os.chdir(FOLDER)
    sys.modules["__main__"] = ModuleType("__main__")  # classes look up their types there
    for cell in cells(name, "code"):
        source = "".join(cell["source"])
        for whole, part in SHORTER.items():
            source = source.replace(whole, part)
        statements = ast.Interactive(ast.parse(source).body)
        exec(compile(statements, name, "single"), vars(sys.modules["__main__"]))


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.mark.slow
def test_a_notebook_runs_and_shows_what_its_text_says(name):
    output = Forked(run, name).finish()
    for pattern in SHOWN[name]:
        assert re.search(pattern, output), pattern


def test_a_committed_notebook_was_run_from_top_to_bottom_and_is_small(name):
    counts = [cell["execution_count"] for cell in cells(name, "code")]
    assert counts == [*range(1, len(counts) + 1)]
    assert not [out for out in outputs(name) if out["output_type"] == "error"]
    assert any("image/png" in out.get("data", {}) for out in outputs(name))
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 300_000
    for pattern in SHOWN[name]:
        assert re.search(pattern, printed(name)), pattern


def test_the_list_of_notebooks_is_complete():
    listed = re.findall(r"\]\((.+)\.ipynb\)", (FOLDER / "README.md").read_text("utf-8"))
    assert listed == NAMES == list(SHOWN)


def test_links_between_pages_lead_somewhere(name):
    text = "\n".join("".join(cell["source"]) for cell in cells(name, "markdown"))
    for target in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (FOLDER / target).exists(), target
