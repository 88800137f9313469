"""Stores the embeddings of a whole database in another form."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, func, select, update

from evomem.rows import Form, Rows
from evomem.state import Spec
from evomem_stores.database.seals import seals_of
from evomem_stores.database.tables import storage, turns
from evomem_stores.log import ledger
from evomem_stores.log.rows import READING_COLUMNS, decode_latents, pack_rows, unpack_embeddings

ROWS_PER_BATCH = 500

_ROWS = select(turns.c.row, *(turns.c[name] for name in READING_COLUMNS)).where(
    turns.c.row > bindparam("behind"), func.length(turns.c.embedding) % 2 == bindparam("odd")
)
_PAGE = _ROWS.order_by(turns.c.row).limit(ROWS_PER_BATCH)
_STORE = (
    update(turns)
    .where(turns.c.row == bindparam("number"))
    .values(embedding=bindparam("new"), checksum=bindparam("new_checksum"))
)


def store_as(connection: Connection, spec: Spec, form: Form) -> list[int]:
    """Store every embedding, and those of later turns, in a form; return the changed memories.

    Raises:
        IntegrityError: The encoder's results for a turn were changed.
    """
    seals = seals_of(connection)
    changed: set[int] = set()
    parameters = {"behind": -1, "odd": int(form == "float32")}
    while rows := connection.execute(_PAGE, parameters).mappings().all():
        new = []
        for row in rows:
            decode_latents(row, spec, seals)  # checks the stored reading
            embeddings = unpack_embeddings(row["embedding"], spec.dim)
            packed = pack_rows(Rows.of(embeddings[:], form))
            checksum = seals.reading({**row, "embedding": packed}, spec.fingerprint)
            new.append({"number": row["row"], "new": packed, "new_checksum": checksum})
            changed.add(row["memory"])
        connection.execute(_STORE, new)
        parameters["behind"] = rows[-1]["row"]
    for memory in sorted(changed):
        entry = ledger.get(connection, memory)
        entry.revision += 1
        ledger.put(connection, entry)
    connection.execute(update(storage).values(embeddings=form))
    return sorted(changed)
