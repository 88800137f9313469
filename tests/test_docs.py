"""The documentation is complete: pages, links, names and references from the code lead somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
MODEL = DOCS / "reference/evoembedding-model.md"
FOLDERS = [ROOT / "evomem", ROOT / "stores", ROOT / "integrations"]
SOURCES = [path for folder in [*FOLDERS, ROOT / "benchmarks"] for path in folder.rglob("*.py")]
PUBLIC = [
    ROOT / "evomem/__init__.py",
    ROOT / "evomem/chats/__init__.py",
    ROOT / "evomem/errors.py",
    ROOT / "evomem/evoembedding/__init__.py",
    ROOT / "evomem/mini/__init__.py",
    ROOT / "stores/evomem_stores/__init__.py",
    *sorted((ROOT / "integrations/evomem_integrations").glob("*/__init__.py")),
]


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


def listed(entry: object) -> list[str]:
    """Return the pages of a part of the navigation."""
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [page for part in parts for page in listed(part)]  # type: ignore[attr-defined]


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
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
    assert sorted(listed(nav)) == PAGES


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
