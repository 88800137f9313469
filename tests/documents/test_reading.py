"""Each format is read as blocks below their headings."""

import zipfile

import docx
import pytest
import semantic_text_splitter
from semantic_text_splitter import TextSplitter

from evomem.documents import Block, Document, files, from_loader, passages, read
from evomem.errors import InputError


def blocks(path):
    return [(block.headings, block.text) for block in read(path).blocks]


def test_markdown_keeps_its_blocks_below_their_headings(tmp_path):
    path = tmp_path / "notes.md"
    path.write_text(
        "---\ntitle: 'My notes'\ntags: [a]\n---\nBefore all.\n\n# Trip\n\n## *Packing* list\n"
        "- tent\n- rope\n\n```sh\n# not a heading\nls\n```\n\n## Money\n\n| a | b |\n|---|---|\n"
        "| 1 | 2 |\n\nPlan\n====\n\nThe end."
    )
    assert read(path).title == "My notes"
    assert blocks(path) == [
        ((), "Before all."),
        (("Trip", "Packing list"), "- tent\n- rope"),
        (("Trip", "Packing list"), "```sh\n# not a heading\nls\n```"),
        (("Trip", "Money"), "| a | b |\n|---|---|\n| 1 | 2 |"),
        (("Plan",), "The end."),
    ]


def test_the_first_heading_is_the_title_of_a_document_that_names_none(tmp_path):
    path = tmp_path / "notes.md"
    path.write_text("# Trip\n\nWe go.\n\n# Home\n\nWe stay.")
    assert read(path).title == "Trip"


def test_text_has_paragraphs_and_may_be_marked_utf_16(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("Größe\r\nzwei\r\n\r\nEnde".encode("utf-16"))
    assert blocks(path) == [((), "Größe\nzwei"), ((), "Ende")]


def test_html_is_read_without_navigation_and_scripts(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(
        "<html><head><title>A page</title><style>p {}</style></head><body>"
        "<nav><a href='/'>Home</a></nav><h1>Top</h1><p>One <b>bold</b> word.<br>Next.</p>"
        "<!-- a comment --><h2>Sub</h2><ul><li>first</li><li>second</li></ul>"
        "<pre>a\n  b</pre><div>loose <p>in a paragraph</p> text</div>"
        "<table><tr><th>x</th><th>y</th></tr><tr><td>1</td><td>2</td></tr></table>"
        "<script>alert(1)</script></body></html>"
    )
    assert read(path).title == "A page"
    assert blocks(path) == [
        (("Top",), "One bold word. Next."),
        (("Top", "Sub"), "- first\n- second"),
        (("Top", "Sub"), "a\n  b"),
        (("Top", "Sub"), "loose"),
        (("Top", "Sub"), "in a paragraph"),
        (("Top", "Sub"), "text"),
        (("Top", "Sub"), "x | y\n1 | 2"),
    ]


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        ("<form><p>Fill it.</p><p>Close it.</p></form>", ["Fill it.", "Close it."]),
        (
            "<form><p>Fill it.</p><select><option>German</option></select><button>Go</button></form>"
            "<p>© 2024</p>",
            ["Fill it.", "© 2024"],
        ),
        ("<form>Search: <input></form><p>Fill the pump first.</p>", ["Fill the pump first."]),
    ],
    ids=["all of the page", "most of the page", "a search field"],
)
def test_a_form_is_left_out_unless_it_holds_most_of_the_page(tmp_path, body, texts):
    path = tmp_path / "page.html"
    path.write_text(f"<html><body>{body}</body></html>", "utf-8")
    assert [block.text for block in read(path).blocks] == texts


def test_html_follows_the_encoding_that_it_declares(tmp_path):
    path = tmp_path / "page.htm"
    path.write_bytes('<meta charset="iso-8859-1"><p>Größe</p>'.encode("latin-1"))
    assert blocks(path) == [((), "Größe")]


@pytest.mark.parametrize(
    "data",
    [
        "<p>Größe</p>".encode("cp1252"),
        '<meta charset="utf-8"><p>Größe</p>'.encode("cp1252"),
        '<meta charset="iso-8859-1"><p>Größe</p>'.encode(),
        "<p>Größe</p>".encode("utf-16"),
    ],
)
def test_html_is_read_right_without_a_declaration_or_with_a_wrong_one(tmp_path, data):
    path = tmp_path / "page.html"
    path.write_bytes(data)
    assert blocks(path) == [((), "Größe")]


def test_html_glues_no_words_and_cuts_none(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(
        "<p><b>one<br>two</b> H<sub>2</sub>O</p><a><div>first</div><div>second</div></a>"
        "<ul><li>Use <b>F</b>oo,<ul><li>in</li></ul>then</li></ul>"
    )
    texts = ["one two H2O", "first", "second", "- Use Foo, in then"]
    assert blocks(path) == [((), text) for text in texts]


def test_html_keeps_lists_in_lists_groups_of_terms_and_captions_and_reads_layout_tables_once(
    tmp_path,
):
    path = tmp_path / "page.html"
    path.write_text(
        "<ul><ul><li>nested</li></ul></ul><dl><div><dt>Term</dt><dd>Meaning</dd></div></dl>"
        "<table><caption>Sizes</caption><tr><td>1</td><td>2</td></tr></table>"
        "<table><tr><td><h1>Top</h1>left<table><tr><td>a</td><td>b</td></tr></table></td></tr></table>"
    )
    assert blocks(path) == [
        ((), "- nested"),
        ((), "Term\n  Meaning"),
        ((), "Sizes\n1 | 2"),
        (("Top",), "left"),
        (("Top",), "a | b"),
    ]


def test_html_may_be_nested_deeper_than_python_can_call(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("<div>" * 3000 + "deep" + "</div>" * 3000)
    assert blocks(path) == [((), "deep")]


def test_word_cells_that_span_others_are_read_once_with_the_tables_in_them(tmp_path):
    path = tmp_path / "table.docx"
    word = docx.Document()
    table = word.add_table(2, 3)
    table.cell(0, 0).merge(table.cell(0, 2)).text = "wide"
    table.cell(0, 0).add_table(1, 1).cell(0, 0).text = "inner"
    table.cell(1, 1).text = "low"
    word.save(path)
    assert blocks(path) == [((), "wide inner\n | low | ")]


def test_word_content_controls_and_tracked_insertions_are_read(tmp_path):
    path, copy = tmp_path / "a.docx", tmp_path / "b.docx"
    word = docx.Document()
    word.add_paragraph("old")
    word.save(path)
    run = "<w:r><w:t>{}</w:t></w:r>"
    added = (
        f"<w:sdt><w:sdtContent><w:p><w:ins w:id='1' w:author='a'>{run.format('new')}</w:ins>"
        f"{run.format(' text')}<w:del w:id='2' w:author='a'>{run.format('gone')}</w:del></w:p>"
        "</w:sdtContent></w:sdt>"
    )
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as changed:
        for name in archive.namelist():
            data = archive.read(name)
            if name == "word/document.xml":
                data = data.replace(b"<w:body>", f"<w:body>{added}".encode())
            changed.writestr(name, data)
    assert blocks(copy) == [((), "new text"), ((), "old")]


def test_a_word_file_whose_properties_are_damaged_is_refused_with_its_name(tmp_path):
    path, damaged = tmp_path / "a.docx", tmp_path / "damaged.docx"
    docx.Document().save(path)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(damaged, "w") as copy:
        for name in archive.namelist():
            copy.writestr(name, b"<x/>" if name == "docProps/core.xml" else archive.read(name))
    with pytest.raises(InputError, match="damaged.docx is not a Word document"):
        read(damaged)


@pytest.mark.parametrize("unit", ["word ", "x"])
def test_a_long_block_reaches_the_splitter_in_pieces_and_keeps_its_text(monkeypatch, unit):
    given = []

    class Recorded:
        def __init__(self, length):
            self.splitter = TextSplitter(length)

        def chunks(self, text):
            given.append(len(text))
            return self.splitter.chunks(text)

    monkeypatch.setattr(semantic_text_splitter, "TextSplitter", Recorded)
    text = (unit * 100_000).strip()
    cut = [passage.text for passage in passages(Document("a.txt", (Block(text),)))]
    assert ("" if unit == "x" else " ").join(cut) == text
    assert max(map(len, cut)) <= 900
    assert min(map(len, cut[:-1])) > 800
    assert max(given) < 50_000


def test_pdf_is_read_page_by_page(pdf):
    document = read(pdf)
    assert document.title == "Pump manual"
    assert [(block.page, block.text) for block in document.blocks] == [
        (1, "Fill the pump with water."),
        (2, "Switch it off before you open the lid."),
    ]


def test_word_keeps_headings_lists_and_tables(docx):
    assert read(docx).title == "Pump manual"
    assert blocks(docx) == [
        (("Safety",), "Switch it off before you open the lid."),
        (("Safety",), "- Wear gloves."),
        (("Safety", "Parts"), "part | price\nseal | 4 €"),
    ]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"Gr\xf6\xdfe", "not UTF-8 at byte 2"),
        ("a.md", b" \n\n", "holds no text"),
        ("a.exe", b"MZ", r"must end with \.md"),
        ("a.pdf", b"no pdf", "damaged PDF"),
        ("a.docx", b"no zip", "not a Word document"),
    ],
)
def test_unreadable_documents_are_refused_with_path_and_reason(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_an_encrypted_pdf_is_refused(pdf, tmp_path):
    from pypdf import PdfWriter

    writer = PdfWriter(clone_from=pdf)
    writer.encrypt("secret", algorithm="RC4-128")
    path = tmp_path / "secret.pdf"
    writer.write(path)
    with pytest.raises(InputError, match="encrypted"):
        read(path)


def test_a_folder_gives_its_documents_and_passes_over_the_rest(tmp_path):
    for name in ("b.md", "a.txt", "c.png", ".hidden.md", "sub/d.HTML", ".git/e.md"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("text")
    names = [str(path.relative_to(tmp_path)) for path in files(tmp_path)]
    assert names == ["a.txt", "b.md", "sub/d.HTML"]
    with pytest.raises(InputError, match="no file or folder"):
        list(files(tmp_path / "nothing"))


def test_passages_hold_neighbours_of_one_section_and_cut_long_blocks():
    long = " ".join(f"Sentence number {number} stands here." for number in range(30))
    document = Document(
        "d",
        (
            Block("One.", ("A",)),
            Block("Two.", ("A",)),
            Block("Three.", ("B",)),
            Block(long, ("B",)),
            Block("Four.", ("B",), page=2),
        ),
    )
    cut = passages(document, length=200)
    assert [p.text for p in cut[:2]] == ["One.\n\nTwo.", "Three."]
    assert (cut[-1].text, cut[-1].page) == ("Four.", 2)
    assert all(len(passage.text) <= 200 for passage in cut)
    assert " ".join(passage.text for passage in cut[2:-1]) == long
    assert all(passage.text.endswith(".") for passage in cut)


def test_documents_of_langchain_and_llamaindex_loaders_are_joined_by_their_source():
    from langchain_core.documents import Document as LangChain
    from llama_index.core.schema import Document as LlamaIndex

    pages = [LangChain("First page.", metadata={"source": "a.pdf", "page": 0, "title": "A"})]
    pages.append(LangChain("Second.", metadata={"source": "a.pdf", "page": 1}))
    node = LlamaIndex(text="Text.", metadata={"file_path": "b.pdf", "page_label": "7"})
    first, second = from_loader([*pages, node])
    assert (first.name, first.title) == ("a.pdf", "A")
    assert [(block.text, block.page) for block in first.blocks] == [
        ("First page.", 1),
        ("Second.", 2),
    ]
    assert (second.name, second.blocks) == ("b.pdf", (Block("Text.", (), 7),))
    with pytest.raises(InputError, match="where it is from"):
        from_loader([LangChain("x")])
    with pytest.raises(InputError, match="is a str"):
        from_loader(["x"])
