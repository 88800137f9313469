"""Documents of each format, written by libraries that write these formats."""

import pytest


@pytest.fixture(scope="session")
def pdf(tmp_path_factory):
    """Return a PDF of two pages with a title."""
    import matplotlib as mpl
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    path = tmp_path_factory.mktemp("pdf") / "pump.pdf"
    pages = ["Fill the pump with water.", "Switch it off before you open the lid."]
    with (
        mpl.rc_context({"pdf.fonttype": 42}),
        PdfPages(path, metadata={"Title": "Pump manual"}) as file,
    ):
        for text in pages:
            figure = Figure()
            figure.text(0.1, 0.8, text)
            file.savefig(figure)
    return path


@pytest.fixture
def docx(tmp_path):
    """Return a Word document with headings, a list and a table."""
    import docx

    document = docx.Document()
    document.core_properties.title = "Pump manual"
    document.add_heading("Safety", 1)
    document.add_paragraph("Switch it off before you open the lid.")
    document.add_paragraph("Wear gloves.", style="List Bullet")
    document.add_heading("Parts", 2)
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip(table._cells, ["part", "price", "seal", "4 €"], strict=True):
        cell.text = text
    path = tmp_path / "pump.docx"
    document.save(path)
    return path
