"""What the public suite `agent-memory-integrity` (its command: `agmi-check`) needs to edit evomem.

    agmi-check --adapter tests.integrity.agmi_adapter:KeyedAudit

The classes differ in three things: whether the database has an integrity key, whether reading is
asked or `verify` with an anchor, and whether who edits computes every digest anew that can be
computed without a key. The last one is harder than what the suite does by itself.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from agmi.adapters.base import MemoryAdapter, Record
from sqlalchemy import create_engine, select, update

import evomem
from evomem.integrity import key_id
from evomem.state import digest
from evomem_stores.database.seals import Seals
from evomem_stores.database.tables import integrity, memories, turns
from evomem_stores.log.rows import decode_record, searched
from evomem_stores.log.writing import write_terms
from evomem_stores.upkeep import sealing
from evomem_stores.words.terms import terms

KEY = bytes(range(32))
SLOT = ("row", "memory", "seq", "id")  # what names a place; all else is what lies there
FIRST, OTHER = 1, 2  # numbers of memories


class Evomem(MemoryAdapter):  # type: ignore[misc]  # the package has no types
    """A SQLite database with the hashing encoder; the first memory is the one that is edited."""

    name = "evomem"
    detection_point = "read"
    supports_replay = supports_metadata = supports_snapshot = True
    key: bytes | None = KEY
    anchored = False
    forging = False

    def setup(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="evomem-agmi-"))
        self.edited = False
        self.anchor: dict[str, Any] | None = None  # kept by the user, not beside the database

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    # through evomem ----------------------------------------------------------------------

    def seed(self, n: int) -> None:
        self._tell("alice", [f"alice-{number}" for number in range(n)])

    def seed_other(self, n: int) -> None:
        self._tell("bob", [f"bob-{number}" for number in range(n)])

    def append_genuine(self) -> None:
        self._tell("alice", ["alice-late"])

    def reload(self) -> None:
        """Compute digests anew if that is what the edit is to be followed by; nothing is open."""
        if self.forging and self.edited:
            self._forge()

    def verify(self) -> bool:
        self.verify_detail = None
        try:
            with self._open() as db:
                if self.detection_point == "audit":
                    faults = db.verify(self.anchor if self.anchored else None)
                    self.verify_detail = faults[0] if faults else None
                    return not faults
                db.memory("alice").history()
                db.memory("alice").search("alice-1")
        except evomem.EvomemError as error:
            self.verify_detail = f"{type(error).__name__}: {error}"
            return False
        return True

    def _open(self) -> evomem.Database:
        return evomem.open(str(self.folder / "a.db"), "hash", integrity_key=self.key)

    def _tell(self, name: str, texts: list[str]) -> None:
        with self._open() as db:
            for text in texts:
                db.memory(name).add(text, metadata={"trusted": False})
            self.anchor = db.anchor()

    # behind its back -----------------------------------------------------------------------

    def read_all_raw(self) -> list[Record]:
        return self._rows(FIRST)

    def read_other_raw(self) -> list[Record]:
        return self._rows(OTHER)

    def write_raw(self, record: Record) -> None:
        there = self._rows(FIRST)
        if record.seq < len(there):
            self._lay(record.fields, there[record.seq].fields)
            return
        seq = there[-1].fields["seq"] + 1
        place = {"row": FIRST << 32 | seq, "memory": FIRST, "seq": seq, "id": f"forged-{seq}"}
        fields = {**record.fields, **place, "chunk": seq}
        names = ", ".join(f'"{name}"' for name in fields)
        marks = ", ".join("?" * len(fields))
        self._run(f"INSERT INTO turns ({names}) VALUES ({marks})", *fields.values())

    def delete_raw(self, seq: int) -> None:
        self._run("DELETE FROM turns WHERE row = ?", self._rows(FIRST)[seq].fields["row"])

    def replay_onto(self, victim_seq: int, donor: Record) -> None:
        self._lay(donor.fields, self._rows(FIRST)[victim_seq].fields)

    def read_meta(self, seq: int) -> dict[str, Any]:
        meta: dict[str, Any] = json.loads(self._rows(FIRST)[seq].fields["metadata"])
        return meta

    def write_meta(self, seq: int, meta: dict[str, Any]) -> None:
        row = self._rows(FIRST)[seq].fields["row"]
        self._run("UPDATE turns SET metadata = ? WHERE row = ?", json.dumps(meta), row)

    def mutate_payload(self, record: Record) -> Record:
        record.fields["user"] = "tampered-" + record.fields["user"]
        return record

    def snapshot_store(self) -> object:
        return self._copy_store(self.folder)

    def restore_store(self, token: object) -> None:
        self._restore_store(token, self.folder)
        self.edited = True

    def identity_of(self, record: Record) -> str:
        return str(record.fields["row"])

    def payload_of(self, record: Record) -> str:
        return str(record.fields["user"])

    def owner_of(self, record: Record) -> str:
        return str(record.fields["memory"])

    def _rows(self, memory: int) -> list[Record]:
        with closing(sqlite3.connect(self.folder / "a.db")) as file:
            file.row_factory = sqlite3.Row
            rows = file.execute("SELECT * FROM turns WHERE memory = ? ORDER BY row", [memory])
            return [Record(place, dict(row)) for place, row in enumerate(rows)]

    def _lay(self, fields: dict[str, Any], place: dict[str, Any]) -> None:
        names = [name for name in fields if name not in SLOT]
        changes = ", ".join(f'"{name}" = ?' for name in names)
        values = [fields[name] for name in names]
        self._run(f"UPDATE turns SET {changes} WHERE row = ?", *values, place["row"])

    def _run(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self.folder / "a.db")) as file, file:
            file.execute(statement, values)
        self.edited = True

    def _forge(self) -> None:
        """Compute everything anew that can be computed without the key, with evomem's own code.

        Counters by which an anchor tells what is older are raised.
        """
        engine = create_engine(f"sqlite:///{self.folder / 'a.db'}")
        with engine.begin() as connection:
            database = connection.scalars(select(integrity.c.database)).one()
            connection.execution_options(seals=Seals(database))
            connection.execute(update(integrity).values(changes=integrity.c.changes + 99))
            more = {"changes": memories.c.changes + 99, "revision": memories.c.revision + 99}
            connection.execute(update(memories).values(more))
            own = select(turns).where(turns.c.memory == FIRST).order_by(turns.c.row)
            key = b""
            for row in connection.execute(own).mappings().all():
                turn = decode_record(row, None).turn
                key = digest(key, turn)
                words = len(terms(searched(turn.speaker, turn.user, turn.assistant)))
                here = update(turns).where(turns.c.row == row["row"])
                connection.execute(here.values(key=key, chunk=row["seq"], words=words))
                end = update(memories).where(memories.c.memory == FIRST)
                connection.execute(end.values(head=row["seq"]))
            write_terms(connection)
            sealing.seal(connection, lambda row: True)
            if self.key:  # or else it would not be opened at all
                connection.execute(update(integrity).values(key=key_id(self.key)))
        engine.dispose()


class KeyedRead(Evomem):
    """With a key; reading is asked."""

    name = "evomem, with a key, reading"


class KeyedAudit(Evomem):
    """With a key; `verify` is asked, with an anchor."""

    name = "evomem, with a key, verify with an anchor"
    detection_point = "audit"
    anchored = True


class KeyedForged(KeyedAudit):
    """As `KeyedAudit`; digests are computed anew, as far as that can be done without the key."""

    name = "evomem, with a key, verify with an anchor, digests recomputed"
    forging = True


class UnkeyedRead(KeyedRead):
    """Without a key; reading is asked."""

    name = "evomem, without a key, reading"
    key = None


class UnkeyedAudit(KeyedAudit):
    """Without a key; `verify` is asked, with an anchor."""

    name = "evomem, without a key, verify with an anchor"
    key = None


class UnkeyedForgedRead(KeyedRead):
    """Without a key; reading is asked, and every digest is computed anew."""

    name = "evomem, without a key, reading, digests recomputed"
    key = None
    forging = True


class UnkeyedForged(KeyedForged):
    """Without a key; `verify` is asked, with an anchor; every digest is computed anew."""

    name = "evomem, without a key, verify with an anchor, digests recomputed"
    key = None
