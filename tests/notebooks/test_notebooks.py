"""Every notebook runs from top to bottom and shows what its text says; what is committed was run."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT

nbformat = pytest.importorskip("nbformat", reason="needs the extra [dev]")
nbclient = pytest.importorskip("nbclient", reason="needs the extra [dev]")

FOLDER = ROOT / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
SHOWN = {
    "01_first_steps": ["found: False\non disk: True", "on disk: False", "'reread': 3"],
    "02_how_memory_evolves": [
        "with memory\n  from 03 Mar.*\n  from 27 Mar.*first Thursday.*\n  from 23 Apr.*first Friday",
        "42 turns told: I'm in! Moved to Bristol",
        "what-if.*Lisbon",
    ],
    "03_naive_rag": ["memory: .*Tuesday", "memory: .*The Dispossessed", "31:55"],
    "04_train_on_your_log": ["12/12", r"'bundled': \(\d, 24\), 'trained': \((1[3-9]|2\d), 24\)"],
    "05_longmemeval": [r"40 conversations, 40 questions", r"evomem/hybrid/mini +k8 +40 +9\d\.\d"],
}
"""Patterns of what has to be in a notebook's output."""


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def outputs(notebook):
    for cell in notebook.cells:
        yield from cell.get("outputs", [])


def printed(notebook):
    """Return everything that was printed or shown as text."""
    parts = [
        out.get("text") or out.get("data", {}).get("text/plain", "") for out in outputs(notebook)
    ]
    return "".join(parts)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.mark.slow
@pytest.mark.enable_socket  # Jupyter speaks to its kernel on loopback
@pytest.mark.filterwarnings("default")  # Jupyter's own are none of ours
def test_a_notebook_runs_and_shows_what_its_text_says(name):
    notebook = read(name)
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(FOLDER)}}
    )
    client.execute()
    for pattern in SHOWN[name]:
        assert re.search(pattern, printed(notebook)), pattern


def test_a_committed_notebook_was_run_from_top_to_bottom_and_is_small(name):
    notebook = read(name)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == [*range(1, len(counts) + 1)]
    assert not [out for out in outputs(notebook) if out.output_type == "error"]
    assert any("image/png" in out.get("data", {}) for out in outputs(notebook))
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 300_000
    for pattern in SHOWN[name]:
        assert re.search(pattern, printed(notebook)), pattern


def test_the_list_of_notebooks_is_complete():
    listed = re.findall(r"\]\((.+)\.ipynb\)", (FOLDER / "README.md").read_text("utf-8"))
    assert listed == NAMES == list(SHOWN)


def test_links_between_pages_lead_somewhere(name):
    text = "\n".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (FOLDER / target).exists(), target
