"""Seals: digests that reveal edits made without evomem.

A seal is a 16-byte BLAKE2b digest of a database's id and the sealed values, keyed with the
database's integrity key. Without a key anybody can compute it: it then reveals accidents, and edits
by people who do not recompute the seal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quote
from typing import Any

from sqlalchemy import Connection, RowMapping

from evomem.errors import IntegrityError
from evomem.integrity import key_id

SIZE = 16
MODULUS: int = 2 ** (8 * SIZE)  # sums are taken modulo this
CACHED_TOMBSTONES = 2**16  # shares kept in memory: a deletion changes one and leaves all others

SEALED_COLUMNS = ("memory", "seq", "id", "time", "added", "key", "session", "speaker", "user", "assistant", "metadata", "source", "recalled")  # fmt: skip
"""The columns of a turn that its seal covers: its record."""

Mark = tuple[str, str]
"""A mark of a purged turn, and the key of its digest (`forgotten`)."""

_READING = ("memory", "seq", "key", "words", "chunk")

_nested = json.JSONEncoder(default=lambda data: [bytes(data).hex()]).encode


def _encode(values: Sequence[object]) -> str:
    """Return an unambiguous text of values, close to JSON; fast, since every turn read needs it.

    The `repr` of a string is no alternative: it depends on the version of Python.
    """
    return ",".join(
        [
            quote(value)
            if type(value) is str
            else repr(value)
            if type(value) is int or value is None
            else f"x{value.hex()}"
            if type(value) is bytes
            else _nested(value)
            for value in values
        ]
    )


class Seals:
    """The seals of one database."""

    def __init__(self, database: str, key: bytes | None = None) -> None:
        """Make seals for the database with this id; `key` has 32 bytes, None for no key."""
        self.database = database
        self.key_id = key_id(key)
        self._key = key or b""
        self.verified_entries: dict[int, tuple[object, ...]] = {}
        """The last read entry of each memory whose seal was verified (`ledger.open_entry`)."""
        self.tombstone_sum = lru_cache(maxsize=256)(self._tombstone_sum)
        """Returns the sum over a memory's tombstones, which are passed as text (`tombstones`)."""
        self._tombstone = lru_cache(maxsize=CACHED_TOMBSTONES)(self._tombstone_share)

    def of(self, database: str) -> Seals:
        """Return the seals of another database, with the same key."""
        return Seals(database, self._key)

    def row(self, columns: Mapping[str, Any] | RowMapping) -> bytes:
        """Return the seal of a turn, over its position and its record."""
        return self.digest(b"row", [columns[name] for name in SEALED_COLUMNS])

    def check_row(self, columns: Mapping[str, Any] | RowMapping) -> None:
        """Raise `IntegrityError` if a turn was changed since it was written."""
        if self.row(columns) != columns["seal"]:
            raise changed_row(columns["memory"], columns["seq"])

    def reading(self, columns: Mapping[str, Any] | RowMapping, fingerprint: str) -> bytes:
        """Return the checksum of a turn's embeddings and latents."""
        values = [fingerprint, *(columns[name] for name in _READING)]
        return self.digest(b"reading", values, columns["embedding"], columns["latents"])

    def share(self, kind: bytes, values: Sequence[object]) -> int:
        """Return a value's share of a sum (over rows, tombstones, marks or memories).

        Sums identify sets: nobody can construct two sets with the same sum without knowing the
        shares. So sums are stored masked, with a new mask each time.
        """
        return int.from_bytes(self.digest(kind, values), "little")

    def mask(self, sums: Sequence[int], kind: bytes, values: Sequence[object]) -> bytes:
        """Return masked sums for storage; `values` must be new each time."""
        packed = b"".join([(number % MODULUS).to_bytes(SIZE, "little") for number in sums])
        return self._masked(packed, kind, values)

    def unmask(self, stored: bytes, kind: bytes, values: Sequence[object]) -> list[int]:
        """Return the sums that `mask` masked."""
        packed = self._masked(stored, kind, values)
        parts = range(0, len(packed), SIZE)
        return [int.from_bytes(packed[start : start + SIZE], "little") for start in parts]

    def digest(
        self, kind: bytes, values: Sequence[object], *blobs: object, size: int = SIZE
    ) -> bytes:
        """Return the digest of values and of large binary values; digests of different kinds differ."""
        digest = hashlib.blake2b(
            _encode([self.database, *values]).encode(), key=self._key, digest_size=size, person=kind
        )
        for blob in blobs:
            data = blob if isinstance(blob, bytes) else _nested(blob).encode()
            digest.update(b"%s%d:" % (type(blob).__name__.encode(), len(data)))
            digest.update(data)
        return digest.digest()

    def _masked(self, packed: bytes, kind: bytes, values: Sequence[object]) -> bytes:
        """Return the exclusive or of bytes and a pad as long; done twice, it changes nothing."""
        pad = self.digest(b"mask " + kind, values, size=len(packed))
        number = int.from_bytes(packed, "little") ^ int.from_bytes(pad, "little")
        return number.to_bytes(len(packed), "little")

    def _tombstone_sum(self, memory: int, text: str) -> int:
        return self.tombstones(memory, dict(tombstones(text)))

    def tombstones(self, memory: int, gone: Mapping[int, int]) -> int:
        """Return the sum over tombstones: seqs of hidden turns, each with the seq of its replacement."""
        return sum(self._tombstone(memory, *place) for place in gone.items()) % MODULUS

    def _tombstone_share(self, memory: int, seq: int, since: int) -> int:
        return self.share(b"hidden", [memory, seq, since] if since else [memory, seq])

    def marks(self, memory: int, marks: Iterable[Mark]) -> int:
        """Return the sum of a memory's marks of purged turns."""
        return sum(self.share(b"forgotten", [memory, *mark]) for mark in marks) % MODULUS

    def rows(self, seals: Iterable[bytes]) -> int:
        """Return the sum of turns with these seals."""
        return sum(self.share(b"rows", [seal]) for seal in seals) % MODULUS


def changed_row(memory: int, seq: int) -> IntegrityError:
    """Return the error for a turn whose seal does not match."""
    return IntegrityError(
        f"turn {seq} of memory {memory} was changed since it was written: its seal does not match; "
        "run verify, and restore the database from a backup"
    )


def tombstones(text: str) -> list[tuple[int, int]]:
    """Return the (seq, since) pairs of a text such as "3:0,5:9".

    Raises:
        ValueError: The text does not have this form.
    """
    parts = (pair.partition(":") for pair in text.split(",") if pair)
    return [(int(seq), int(since)) for seq, _, since in parts]


def seals_of(connection: Connection) -> Seals:
    """Return the seals of a connection's database."""
    seals: Seals = connection.get_execution_options()["seals"]
    return seals
