"""Encoders by name, with a cache of what they have read."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qsl

import numpy as np

from evomem import Encoder, Turn, load_encoder
from evomem.state import Reading, Spec, State, Vectors, digest

CACHED_CONVERSATIONS = 4  # the current one, which several systems read, and earlier ones


class Memo:
    """An encoder with a cache of its readings, which is exact: equal histories have equal readings.

    An encoder without a memory reads each text once for all conversations. For an encoder with a
    memory, a turn is keyed by the digest of all turns up to it, and the last conversations are kept. If
    conversations with equal beginnings follow each other, each beginning is read once.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._recurrent = encoder.spec.latents > 0
        self._by_text: dict[bytes, Reading] = {}  # for an encoder without a memory
        self._paths: list[dict[bytes, Reading]] = [{}]  # with a memory: conversations, newest last
        self._before: dict[bytes, Reading] = {}  # a conversation with the same first turn
        self.reused = 0
        """Turns from the cache; if it grows, a measured time is not the full cost of reading."""

    @property
    def spec(self) -> Spec:
        """The spec of the encoder."""
        return self._encoder.spec

    @property
    def order(self) -> int:
        """The number of coordinates at the end of an embedding that encode order; 0 if it has none."""
        return int(getattr(self._encoder, "order", 0))

    def read(self, state: State[Turn], turns: Sequence[Turn]) -> list[Reading]:
        """See `Encoder.read`."""
        if self._recurrent:
            return self._read_in_order(state, turns)
        return self._read_texts(state, turns)

    def embed_queries(self, state: State[Turn], queries: Sequence[str]) -> Vectors:
        """See `Encoder.embed_queries`."""
        return self._encoder.embed_queries(state, queries)

    def count_tokens(self, text: str) -> int:
        """See `Encoder.count_tokens`."""
        return self._encoder.count_tokens(text)

    def _read_texts(self, state: State[Turn], turns: Sequence[Turn]) -> list[Reading]:
        new = {turn.content: turn for turn in turns if turn.content not in self._by_text}
        self.reused += len(turns) - len(new)
        self._by_text.update(zip(new, self._encoder.read(state, list(new.values())), strict=True))
        return [self._by_text[turn.content] for turn in turns]

    def _read_in_order(self, state: State[Turn], turns: Sequence[Turn]) -> list[Reading]:
        keys: list[bytes] = []
        for turn in turns:
            keys.append(digest(keys[-1] if keys else state.key, turn))
        if not state.key and keys:  # a new conversation: look for one with the same first turn
            self._before = next((path for path in self._paths if keys[0] in path), {})
            self._paths = [path for path in self._paths if path is not self._before]
            self._paths = [*self._paths, {}][-CACHED_CONVERSATIONS:]
        readings: list[Reading] = []
        for key, turn in zip(keys, turns, strict=True):
            cached = self._before.get(key)
            if cached is None:
                break
            readings.append(cached)
            state = state.after(turn, cached)
        self.reused += len(readings)
        unread = turns[len(readings) :]
        readings += self._encoder.read(state, unread) if unread else []
        self._paths[-1].update(zip(keys, readings, strict=True))
        return readings


class Encoders:
    """Encoders by the names that `evomem.load_encoder` accepts; each is loaded once."""

    def __init__(self, device: str | None = None) -> None:
        """Run encoders on `device`, such as `"cuda"`."""
        self._device = device
        self._loaded: dict[str, Encoder] = {}
        self._memos: dict[str, Memo] = {}

    def __getitem__(self, name: str) -> Memo:
        """Return the encoder of this name, whose options may be integers: `"mini?turns=8"`."""
        if name not in self._memos:
            self._memos[name] = Memo(self._load(name))
        return self._memos[name]

    def apart(self) -> Encoders:
        """Return the same encoders with an empty cache of readings."""
        other = Encoders(self._device)
        other._loaded = self._loaded
        return other

    def _load(self, name: str) -> Encoder:
        if name not in self._loaded:
            address, _, query = name.partition("?")
            options = {
                key: int(value) if value.isdecimal() else value for key, value in parse_qsl(query)
            }
            self._loaded[name] = load_encoder(address, device=self._device, **options)
        return self._loaded[name]

    @property
    def reused(self) -> int:
        """Turns from the caches of all encoders."""
        return sum(memo.reused for memo in self._memos.values())


class ReadHistory:
    """A conversation that an encoder has read from its beginning, and the state after each of its turns."""

    def __init__(self, encoder: Encoder, turns: Sequence[Turn]) -> None:
        """Read `turns`, at least one."""
        self._turns = turns
        self._empty: State[Turn] = State.empty(encoder.spec)
        self._readings = encoder.read(self._empty, turns)
        self._latest, self._place = self._empty, 0
        self.vectors: Vectors = np.stack([reading.embedding for reading in self._readings])
        """(N, D), the turns' embeddings; of a long turn, that of its beginning."""

    def state(self, place: int | None = None) -> State[Turn]:
        """Return the state after the first `place` turns; after all of them if it is None.

        A call continues from the place of the last one, if that is not later.
        """
        place = len(self._turns) if place is None else place
        if place < self._place:
            self._latest, self._place = self._empty, 0
        for number in range(self._place, place):
            self._latest = self._latest.after(self._turns[number], self._readings[number])
        self._place = place
        return self._latest


def read_all(encoder: Encoder, turns: Sequence[Turn]) -> tuple[Vectors, State[Turn]]:
    """Return the embeddings of a conversation's turns, (N, D), and the state after the last turn."""
    history = ReadHistory(encoder, turns)
    return history.vectors, history.state()
