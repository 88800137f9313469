"""`RemoteTogether`: the memories of a service below a prefix, cached and kept current."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from evomem.client.calls import Call, Caller, Steps, to_json
from evomem.errors import HeadMoved
from evomem.lru_cache import LruCache
from evomem.service.names import join_name, split_name
from evomem.store import Extract, Listed, Namespace
from evomem.together import MAX_BYTES, Together

TURN_BYTES = 1000  # approximate size of a turn in memory without metadata
_NO_VECTORS = np.zeros((0, 0), np.float32)
_NO_OWNERS = np.zeros(0, np.int64)


class RemoteTogether(Together):
    """The turns of all memories below a prefix; their embeddings stay on the service."""

    def __init__(
        self, caller: Caller, prefix: Namespace, mark: str, extracts: list[Extract]
    ) -> None:
        self.extracts = extracts
        self.version = ()
        self.mark = mark
        self.answer: tuple[str, npt.NDArray[np.float32]] | None = None
        """The last query, and the cosines with it."""
        self._caller = caller
        self.prefix = prefix

    def is_current(self) -> bool:
        """See `Together.is_current`."""
        return False

    def cosines(self, query: str) -> npt.NDArray[np.float32]:
        """See `Together.cosines`."""
        answer = self.answer
        if answer is None or answer[0] != query:
            value = self._caller.run(_request(self.prefix, self, query))
            if value["version"] != self.mark:
                raise HeadMoved(f"memories below {join_name(self.prefix)!r} have changed meanwhile")
            answer = self.answer = query, _floats(value)
        return answer[1]


class RemoteTogetherCache:
    """A cache of a service's turns. Thread-safe; losing it changes no result."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._read: LruCache[Namespace, RemoteTogether] = LruCache(
            MAX_BYTES, lambda together: together.nbytes
        )

    def read(self, prefix: Namespace, query: str | None) -> Steps[Together]:
        """Return the current turns of all memories below a prefix."""
        cached = self._read.get(prefix)
        value = yield from _request(prefix, cached, query)
        if cached is None or value["memories"] is not None:
            known = (
                {}
                if cached is None
                else {extract.namespace: extract for extract in cached.extracts}
            )
            extracts = [_extract(name, new, known) for name, new in value["memories"].items()]
            cached = RemoteTogether(self._caller, prefix, value["version"], extracts)
            self._read.put(prefix, cached)
        if query is not None:
            cached.answer = query, _floats(value)
        return cached


def _request(prefix: Namespace, cached: RemoteTogether | None, query: str | None) -> Steps[Any]:
    known = (
        {join_name(extract.namespace): extract.mark[0] for extract in cached.extracts}
        if cached
        else {}
    )
    version = cached.mark if cached else ""
    body = {"prefix": prefix, "version": version, "known": known, "query": query}
    return (yield Call("POST", "/together", body=to_json(body)))


def _floats(value: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    return np.array(value["cosines"], np.float32)


def _extract(
    name: str, new: Mapping[str, Any] | None, known: Mapping[Namespace, Extract]
) -> Extract:
    """Return a memory's turns, cached or new; an unchanged turn stays the same object."""
    namespace = split_name(name)
    if new is None:
        return known[namespace]
    old = {turn.seq: turn for turn in known[namespace].turns} if namespace in known else {}
    turns: list[Listed] = []
    size = 0
    for value in new["turns"]:
        added = datetime.fromisoformat(value["added"])
        turn = Listed(value["seq"], value["id"], value["session"], value["metadata"], added)
        same = old.get(turn.seq)
        turns.append(same if same == turn else turn)
        size += TURN_BYTES + len(json.dumps(turn.metadata))
    number = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "big")
    return Extract(number, namespace, (new["mark"],), b"", turns, _NO_VECTORS, _NO_OWNERS, size)
