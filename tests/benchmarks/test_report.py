import json
import re

import pytest

from benchmarks import qa
from benchmarks.quality import ablation, temporal
from benchmarks.reporting import figures, report
from benchmarks.reporting.figures import with_current_figures
from benchmarks.reporting.pages import Block, Heading, Table, Text, as_html, as_markdown
from evomem.errors import InputError
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    stream = {
        "id": "one",
        "turns": [{"speaker": "user", "text": text} for text in ("A cat.", "A dog.", "It rains.")],
        "queries": [{"question": "Which cat?", "type": "pets", "evidence": [0], "answer": "a"}],
    }
    path = folder / "locomo.jsonl"
    path.write_text(json.dumps(stream))
    out = str(folder / "out")
    assert (
        ablation.main(
            ["--stream", str(path), "--system", "hash", "--system", "recency", "--out", out]
        )
        == 0
    )
    assert qa.main(["--stream", str(path), "--system", "bm25", "--out", out]) == 0
    assert (
        temporal.main(["--encoder", "hash", "--histories", "2", "--segments", "32", "--out", out])
        == 0
    )
    return folder / "out"


def test_a_report_shows_every_result_with_what_it_takes_to_repeat_it(results, tmp_path):
    assert report.main([str(results), "--out", str(tmp_path)]) == 0
    page = (tmp_path / "report.md").read_text()
    for command in ("ablation", "qa", "temporal"):
        assert f"python -m benchmarks {command} " in page
    sha = json.loads((results / "ablation.json").read_text())["datasets"][0]["sha256"]
    assert sha[:16] in page
    assert "| hash | 100.0 [100.0, 100.0]" in page
    assert "evomem-engine" in page
    assert "not measured here" in page
    [link] = re.findall(r"!\[temporal\]\((.*?)\)", page)
    assert (tmp_path / link).read_text().startswith("<?xml")


def test_the_html_page_needs_no_other_file(results, tmp_path):
    assert report.main([str(results), "--out", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    sources = re.findall(r'src="(.{16})', page)
    assert len(sources) == 2
    assert all(source.startswith("data:image/") for source in sources)
    assert "http://" not in re.sub(r"xmlns[^ ]*", "", page.split("<h1>")[0])


def test_results_that_were_there_before_can_be_reported(tmp_path):
    assert report.main([str(ROOT / "benchmarks" / "results"), "--out", str(tmp_path)]) == 0
    assert "streaming" in (tmp_path / "report.md").read_text()


def test_a_folder_without_results_is_refused(tmp_path, capsys):
    assert report.main([str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "no results in" in capsys.readouterr().err


def test_text_from_results_cannot_break_a_page():
    blocks: list[Block] = [Heading(1, "<b>"), Text("a & b"), Table(["a|b"], [["<script>"]])]
    html = as_html("x", blocks)
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    assert "a\\|b" in as_markdown(blocks)


DOCUMENT = """\
Some words.

<!-- figures ablation.json recall@10 macro intervals published
hash = `hash`, a toy
recency = the newest
-->
an old table
<!-- /figures -->

It finds <!-- value ablation.json ["datasets", "locomo", "rows", "hash", "overall", "all", "recall@1", 0] % -->1.0<!-- /value --> %.
"""


def test_marked_blocks_are_regenerated_and_nothing_else_changes(results):
    fresh = with_current_figures(DOCUMENT, results)
    assert "| `hash`, a toy | 100.0 [100.0, 100.0] |" in fresh
    assert "| *EvoEmbedding-4B, as published* | *76.3* |" in fresh
    assert "an old table" not in fresh
    assert "-->100.0<!-- /value --> %." in fresh
    assert fresh.startswith("Some words.\n\n<!-- figures ablation.json recall@10 macro")
    assert with_current_figures(fresh, results) == fresh


def test_a_table_can_show_the_mean_over_questions_beside_the_mean_over_types(results):
    fresh = with_current_figures(DOCUMENT.replace("macro intervals", "both"), results)
    assert "| recall@10, % | locomo, per question | locomo, per type |" in fresh
    assert "| `hash`, a toy | 100.0 | 100.0 |" in fresh
    assert "| *EvoEmbedding-4B, as published* |  | *76.3* |" in fresh
    assert "| *mxbai-rerank-large-v1 over 500 dense hits, as published* | *80.8* |  |" in fresh


def test_a_code_block_is_an_example():
    text = "```\n<!-- value nowhere.json [0] --><!-- /value -->\n```\n"
    assert with_current_figures(text, ROOT) == text


def test_a_document_is_checked_and_rewritten(results, tmp_path, monkeypatch, capsys):
    path = tmp_path / "doc.md"
    path.write_text(DOCUMENT)
    monkeypatch.chdir(results)
    assert figures.main([str(path)]) == 1
    assert path.read_text() == DOCUMENT
    assert figures.main([str(path), "--write"]) == 0
    assert figures.main([str(path)]) == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("hash = ", "nobody = ", "ablation.json has no 'nobody'"),
        ("figures ablation", "figures nowhere", r"nowhere\.json cannot be read"),
        ('"all", "recall@1"', '"all", "recall@3"', "has nothing at"),
    ],
)
def test_a_block_that_asks_for_what_is_not_there_is_an_error(results, old, new, message):
    with pytest.raises(InputError, match=message):
        with_current_figures(DOCUMENT.replace(old, new), results)


@pytest.mark.parametrize(
    "name", ["README.md", "docs/measurements/benchmarks.md", "evomem/mini/MODEL_CARD.md"]
)
def test_figures_in_our_documents_are_those_of_the_results(name):
    text = (ROOT / name).read_text()
    assert with_current_figures(text, ROOT) == text
