"""Keys: who may do what below which prefix; and the access log: who did what, never the texts.

Both are in a separate small SQL database: a file beside the memories (`agent.db.keys`), or a schema
on the same PostgreSQL server. A key is looked up at every request, so changes take effect at once
for every worker on every machine.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import sqlalchemy as sa

from evomem.checks import check_labels
from evomem.errors import InputError, NotFound, StoreError
from evomem.service.access import EVERYTHING, RIGHTS, Access, Key
from evomem.service.key_cache import KeyCache
from evomem.service.key_tables import ACCESSES, KEYS, META, SECRETS, connect
from evomem.store import Namespace

MARK = "evk"
"""The prefix of every secret, by which secret scanners recognise it."""
USED = 60.0  # seconds between two writes of a key's last use


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the access log."""

    time: float
    """Seconds since 1970."""
    key: str
    """The key's id; "" if the service needs no key."""
    action: str
    memory: Namespace
    """() for the whole database."""
    count: int
    """The number of turns added, returned or forgotten."""
    status: int
    """The HTTP status of the response."""

    def to_json(self) -> dict[str, Any]:
        """Return the line as plain JSON values."""
        return {
            "time": _iso(self.time),
            "key": self.key,
            "action": self.action,
            "memory": list(self.memory),
            "count": self.count,
            "status": self.status,
        }


class KeyStore:
    """Keys and the access log. Safe for threads and processes; close it."""

    def __init__(self, location: str) -> None:
        """Open the store at `location`, as `keys_location` names it, creating it if there is none.

        Raises:
            StoreError: It cannot be opened.
        """
        self.location = location
        self._used: dict[str, float] = {}
        with self._failures():
            self._engine = connect(location)
            self._cache = KeyCache(location)
            with suppress(sa.exc.DBAPIError):  # another process creates the same tables
                self._create()
            with self._engine.connect() as connection:
                connection.execute(sa.select(KEYS.c.id).limit(1))
                connection.execute(sa.select(ACCESSES.c.number).limit(1))

    def create(
        self,
        prefix: Namespace,
        rights: Iterable[str],
        *,
        expires: datetime | None = None,
        note: str = "",
    ) -> tuple[str, Key]:
        """Create a key; return its secret, which is not stored, and the stored part.

        Args:
            prefix: The key is for memories whose namespaces begin with these labels; () for all.
            rights: Some of `RIGHTS`.
            expires: The time at which it expires; None for never.
            note: Its purpose.

        Raises:
            InputError: An argument cannot be used.
        """
        if prefix:
            check_labels(prefix)
        chosen = tuple(right for right in RIGHTS if right in set(rights))
        if not chosen or (unknown := set(rights) - set(RIGHTS)):
            wrong = sorted(unknown)[0] if chosen else "none"
            raise InputError(f"rights are some of {', '.join(RIGHTS)}, got {wrong!r:.60}")
        if expires is not None and expires <= datetime.now(timezone.utc):
            raise InputError(f"the key would expire at {expires.isoformat()}, which is in the past")
        if len(note) > 512:
            raise InputError(f"the note has {len(note)} characters, the limit is 512")
        id, random_part = secrets.token_hex(6), secrets.token_urlsafe(32)
        salt = secrets.token_bytes(16)
        row = {
            "id": id,
            "prefix": json.dumps(prefix),
            "rights": ",".join(chosen),
            "note": note,
            "salt": salt,
            "hash": _digest(salt, random_part),
            "created": time.time(),
            "expires": expires and expires.timestamp(),
        }
        with self._writing() as connection:
            connection.execute(sa.insert(KEYS).values(row))
        return f"{MARK}_{id}_{random_part}", self.get(id)

    def get(self, id: str) -> Key:
        """Return a key. Raises `NotFound`."""
        row = self._row(id)
        if row is None:
            raise no_key(id)
        return _key(row)

    def keys(self, prefix: Namespace = ()) -> list[Key]:
        """Return the keys whose prefixes begin with `prefix`, oldest first, revoked ones too."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(KEYS).order_by(KEYS.c.created, KEYS.c.id)).all()
        keys = [_key(row) for row in rows]
        return [key for key in keys if key.prefix[: len(prefix)] == prefix]

    def revoke(self, id: str) -> Key:
        """Revoke a key, on every worker; return it. Raises `NotFound`."""
        self.get(id)
        change = sa.update(KEYS).where(KEYS.c.id == id, KEYS.c.revoked.is_(None))
        with self._writing() as connection:
            connection.execute(change.values(revoked=time.time()))
        return self.get(id)

    def any(self) -> bool:
        """Return whether a key was ever created: from then on, every request needs one."""
        version = self._cache.version()
        with self._reading() as connection:
            is_one = connection.execute(sa.select(KEYS.c.id).limit(1)).first() is not None
        if not is_one:
            self._cache.put(version, "", EVERYTHING, math.inf)
        return is_one

    def remembered(self, secret: str) -> Access | None:
        """Return a cached result of `find`, without a statement; None if there is none.

        Without a secret, it returns the rights of everybody while there is no key (`any`).
        """
        return self._cache.get(secret)

    def find(self, secret: str) -> Access | None:
        """Return the rights of a secret; None if it is unknown, expired or revoked.

        An unknown key takes as long to refuse as a wrong secret.
        """
        version = self._cache.version()
        mark, _, rest = secret.partition("_")
        id, _, random_part = rest.partition("_")
        row = self._row(id)
        salt, stored = (row.salt, row.hash) if row else (b"\0" * 16, b"\0" * 32)
        fits = hmac.compare_digest(_digest(salt, random_part), stored)
        if row is None or not fits or mark != MARK or row.revoked is not None:
            return None
        if row.expires is not None and row.expires <= row.now:
            return None
        now = time.time()
        if now - self._used.get(id, 0) > USED:
            self._used[id] = now
            with suppress(StoreError), self._writing() as connection:
                connection.execute(sa.update(KEYS).where(KEYS.c.id == id).values(used=now))
        access = Access(id, _namespace(row.prefix), frozenset(row.rights.split(",")))
        until = self._used[id] + USED
        self._cache.put(version, secret, access, min(until, row.expires or until))
        return access

    def secret(self, name: str = "tokens") -> bytes:
        """Return 32 random bytes that all workers share, created on first use."""
        query = sa.select(SECRETS.c.secret).where(SECRETS.c.name == name)
        with suppress(StoreError), self._reading() as connection:
            row = connection.execute(query).one_or_none()
            if row is not None:
                return bytes(row.secret)
        with (
            suppress(StoreError),
            self._writing() as connection,
        ):  # another worker may create them first
            made = {"name": name, "secret": secrets.token_bytes(32)}
            connection.execute(sa.insert(SECRETS).values(made))
        with self._reading() as connection:
            return bytes(connection.execute(query).scalar_one())

    # the access log ------------------------------------------------------------------------

    def note(self, entries: Iterable[Entry]) -> None:
        """Write lines of the access log."""
        rows = [
            {
                "time": entry.time,
                "key": entry.key,
                "action": entry.action,
                "memory": json.dumps(entry.memory),
                "turns": entry.count,
                "status": entry.status,
            }
            for entry in entries
        ]
        if rows:
            with self._writing() as connection:
                connection.execute(sa.insert(ACCESSES), rows)

    def accesses(
        self, access: Access, *, after: int = 0, before: int | None = None, limit: int = 100
    ) -> list[tuple[int, Entry]]:
        """Return lines of the log with their numbers, oldest first; with `before`, newest first.

        Args:
            access: Selects the lines about memories, and of keys, below its prefix.
            after: Only lines with a greater number.
            before: Only lines with a smaller number.
            limit: Maximum number of lines.
        """
        keys = {key.id for key in self.keys(access.prefix)} | ({""} if not access.prefix else set())
        number = ACCESSES.c.number
        query = sa.select(ACCESSES).where(number > after).order_by(number)
        if before is not None:
            query = sa.select(ACCESSES).where(number > after, number < before)
            query = query.order_by(number.desc())
        lines: list[tuple[int, Entry]] = []
        with self._reading() as connection:
            for row in connection.execute(query.execution_options(yield_per=1000)):
                entry = Entry(
                    row.time, row.key, row.action, _namespace(row.memory), row.turns, row.status
                )
                if not access.prefix or (row.key in keys and access.covers(entry.memory)):
                    lines.append((row.number, entry))
                    if len(lines) == limit:
                        break
        return lines

    def forget_accesses(self, before: float) -> int:
        """Delete older lines of the log; return how many."""
        with self._writing() as connection:
            return connection.execute(sa.delete(ACCESSES).where(ACCESSES.c.time < before)).rowcount

    def close(self) -> None:
        """Release the database; harmless when repeated."""
        self._cache.close()
        self._engine.dispose()

    # ---------------------------------------------------------------------------------------

    def _row(self, id: str) -> Any:
        plain = id if id.isascii() and id.isprintable() else ""  # databases refuse other characters
        with self._reading() as connection:
            # Workers on several machines use the server's clock; those that share a file
            # are on one machine.
            now: Any = sa.literal(time.time())
            if connection.dialect.name == "postgresql":
                now = sa.extract("epoch", sa.func.clock_timestamp())
            query = sa.select(KEYS, now.label("now")).where(KEYS.c.id == plain)
            return connection.execute(query).one_or_none()

    def _create(self) -> None:
        schema = self._engine.get_execution_options().get("schema_translate_map", {}).get(None)
        with self._engine.begin() as connection:
            if schema:
                connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
            META.create_all(connection)

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._failures(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with self._failures(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.SQLAlchemyError, OSError) as error:
            place = self.location.partition("://")[0] if "://" in self.location else self.location
            reason = str(getattr(error, "orig", error)).splitlines()[0]
            raise StoreError(f"the keys ({place}) cannot be read or written: {reason}") from error


def no_key(id: str) -> NotFound:
    """Return the error for an unknown key."""
    return NotFound(f"there is no key with the id {id!r:.60}; list them to see which are")


def _digest(salt: bytes, random_part: str) -> bytes:
    """Return the salted hash of a key's random part, whose 256 bits need no slow hash."""
    return hashlib.sha256(salt + random_part.encode("utf-8", "surrogatepass")).digest()


def _key(row: Any) -> Key:
    return Key(
        row.id,
        _namespace(row.prefix),
        tuple(row.rights.split(",")),
        row.note,
        _time(row.created),
        row.expires and _time(row.expires),
        row.revoked and _time(row.revoked),
        row.used and _time(row.used),
    )


def _namespace(text: str) -> Namespace:
    return tuple(json.loads(text))


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def _iso(seconds: float) -> str:
    return _time(seconds).isoformat()
