"""Documents: files are read, cut into passages, and kept as turns of a memory.

file ─► formats (blocks of text with their headings and pages) ─► passages ─► adding ─► memory

A document is one session, called by the document's name; each of its passages is one turn, whose
metadata says where it stands. Adding a document again replaces what changed, and nothing else.
"""

from evomem.documents.adding import Ingested as Ingested
from evomem.documents.adding import add_document as add_document
from evomem.documents.adding import document_names as document_names
from evomem.documents.loaders import from_loader as from_loader
from evomem.documents.model import Block as Block
from evomem.documents.model import Document as Document
from evomem.documents.model import Passage as Passage
from evomem.documents.passages import passages as passages
from evomem.documents.places import place as place
from evomem.documents.reading import SUFFIXES as SUFFIXES
from evomem.documents.reading import files as files
from evomem.documents.reading import read as read
