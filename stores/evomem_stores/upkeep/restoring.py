"""Storing the embeddings of a whole database in another form."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, func, select, update

from evomem.rows import Form, Rows
from evomem.state import Spec
from evomem_stores.database.seals import seals_of
from evomem_stores.database.tables import storage, turns
from evomem_stores.log import ledger
from evomem_stores.log.rows import READING, decode_latents, pack_rows, unpack_embeddings

AT_ONCE = 500

_ROWS = select(turns.c.row, *(turns.c[name] for name in READING)).where(
    turns.c.row > bindparam("behind"), func.length(turns.c.embedding) % 2 == bindparam("odd")
)
_PAGE = _ROWS.order_by(turns.c.row).limit(AT_ONCE)
_STORE = (
    update(turns)
    .where(turns.c.row == bindparam("number"))
    .values(embedding=bindparam("new"), checksum=bindparam("new_checksum"))
)


def store_as(connection: Connection, spec: Spec, form: Form) -> list[int]:
    """Store every embedding in a form, and those of later turns; return the memories that changed.

    Raises:
        IntegrityError: The encoder's results for a turn were changed.
    """
    seals = seals_of(connection)
    changed: set[int] = set()
    given = {"behind": -1, "odd": int(form == "float32")}
    while rows := connection.execute(_PAGE, given).mappings().all():
        new = []
        for row in rows:
            decode_latents(row, spec, seals)  # which checks what was stored
            embeddings = unpack_embeddings(row["embedding"], spec.dim)
            packed = pack_rows(Rows.of(embeddings[:], form))
            checksum = seals.reading({**row, "embedding": packed}, spec.fingerprint)
            new.append({"number": row["row"], "new": packed, "new_checksum": checksum})
            changed.add(row["memory"])
        connection.execute(_STORE, new)
        given["behind"] = rows[-1]["row"]
    for memory in sorted(changed):
        entry = ledger.get(connection, memory)
        entry.revision += 1
        ledger.put(connection, entry)
    connection.execute(update(storage).values(embeddings=form))
    return sorted(changed)
