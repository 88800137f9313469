"""Reads conversations from files and objects, in the shapes of chat programs and libraries.

source ─► files ─► values ─► shape ─► conversations of plain messages

`read` takes a path, bytes or message objects and returns `Chats`. Messages are not paired here;
`evomem.pairing.as_turns` does that.
"""

from __future__ import annotations

from evomem.chats.model import Chats, Conversation, FileRead, Problem
from evomem.chats.reading import formats, read
from evomem.chats.turns import read_chats

__all__ = ["Chats", "Conversation", "FileRead", "Problem", "formats", "read", "read_chats"]
