"""Documents: files are read, split into passages, and stored as turns of a memory.

file ─► formats (blocks of text with their headings and pages) ─► passages ─► adding ─► memory

A document is one session with the document's name; each of its passages is one turn, whose metadata
holds its location. Adding a document again replaces only the changed passages.
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
