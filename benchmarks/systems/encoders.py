"""Encoders by name, each read through a memory of what it has read already."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qsl

import numpy as np

from evomem import Encoder, Turn, load_encoder
from evomem.state import Reading, Spec, State, Vectors, digest

KEEP = 4  # conversations in memory: the same one, read by several systems, and the one before it


class Memo:
    """An encoder that reads nothing twice: exact, since equal pasts give equal readings.

    Without a memory, a text is read once for all conversations. With one, a turn is known by the
    digest of all turns up to it, and the conversations read last are kept: in an order that puts
    equal beginnings side by side, every beginning is read once.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._recurrent = encoder.spec.latents > 0
        self._known: dict[bytes, Reading] = {}  # without a memory: by text
        self._paths: list[dict[bytes, Reading]] = [{}]  # with one: conversations, the newest last
        self._before: dict[bytes, Reading] = {}  # the one that began like the newest
        self.reused = 0
        """Turns that were not read again; a time measured meanwhile is not what reading costs."""

    @property
    def spec(self) -> Spec:
        """Those of the encoder."""
        return self._encoder.spec

    def read(self, state: State[Turn], turns: Sequence[Turn]) -> list[Reading]:
        """See `Encoder.read`."""
        return self._read_on(state, turns) if self._recurrent else self._read_each(state, turns)

    def embed_queries(self, state: State[Turn], queries: Sequence[str]) -> Vectors:
        """See `Encoder.embed_queries`."""
        return self._encoder.embed_queries(state, queries)

    def count_tokens(self, text: str) -> int:
        """See `Encoder.count_tokens`."""
        return self._encoder.count_tokens(text)

    def _read_each(self, state: State[Turn], turns: Sequence[Turn]) -> list[Reading]:
        new = {turn.content: turn for turn in turns if turn.content not in self._known}
        self.reused += len(turns) - len(new)
        self._known.update(zip(new, self._encoder.read(state, list(new.values())), strict=True))
        return [self._known[turn.content] for turn in turns]

    def _read_on(self, state: State[Turn], turns: Sequence[Turn]) -> list[Reading]:
        keys: list[bytes] = []
        for turn in turns:
            keys.append(digest(keys[-1] if keys else state.key, turn))
        if not state.key and keys:  # a conversation begins: is one known that begins like it?
            self._before = next((path for path in self._paths if keys[0] in path), {})
            self._paths = [path for path in self._paths if path is not self._before]
            self._paths = [*self._paths, {}][-KEEP:]
        readings: list[Reading] = []
        for key, turn in zip(keys, turns, strict=True):
            known = self._before.get(key)
            if known is None:
                break
            readings.append(known)
            state = state.after(turn, known)
        self.reused += len(readings)
        unread = turns[len(readings) :]
        readings += self._encoder.read(state, unread) if unread else []
        self._paths[-1].update(zip(keys, readings, strict=True))
        return readings


class Encoders:
    """Encoders by the names that `evomem.load_encoder` takes; each is loaded once."""

    def __init__(self, device: str | None = None) -> None:
        """`device`: where they run, such as `"cuda"`."""
        self._device = device
        self._loaded: dict[str, Encoder] = {}
        self._memos: dict[str, Memo] = {}

    def __getitem__(self, name: str) -> Memo:
        """Return the encoder of this name. Numbers in it are numbers: `"mini?turns=8"`."""
        if name not in self._memos:
            self._memos[name] = Memo(self._load(name))
        return self._memos[name]

    def apart(self) -> Encoders:
        """Return the same encoders, with a memory of their own of what they have read."""
        other = Encoders(self._device)
        other._loaded = self._loaded
        return other

    def _load(self, name: str) -> Encoder:
        if name not in self._loaded:
            address, _, written = name.partition("?")
            options = {
                key: int(value) if value.isdecimal() else value for key, value in parse_qsl(written)
            }
            self._loaded[name] = load_encoder(address, device=self._device, **options)
        return self._loaded[name]

    @property
    def reused(self) -> int:
        """Turns that were not read again, over all encoders."""
        return sum(memo.reused for memo in self._memos.values())


def read_all(encoder: Encoder, turns: Sequence[Turn]) -> tuple[Vectors, State[Turn]]:
    """Read a conversation from its beginning.

    Returns:
        The turns' embeddings, (N, D), and the state after the last turn.
    """
    state: State[Turn] = State.empty(encoder.spec)
    readings = encoder.read(state, turns)
    for turn, reading in zip(turns, readings, strict=True):
        state = state.after(turn, reading)
    return np.stack([reading.embedding for reading in readings]), state
