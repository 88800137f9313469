"""The tables of keys, secrets and the access log, in SQLite or PostgreSQL."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from evomem.errors import StoreError

BUSY = 30  # seconds to wait for a lock

META = sa.MetaData()
KEYS = sa.Table(
    "keys",
    META,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("prefix", sa.Text, nullable=False),
    sa.Column("rights", sa.String, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("salt", sa.LargeBinary, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("expires", sa.Float),
    sa.Column("revoked", sa.Float),
    sa.Column("used", sa.Float),
)
ACCESSES = sa.Table(
    "access",
    META,
    sa.Column(
        "number",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        sa.Identity(),
        primary_key=True,
    ),
    sa.Column("time", sa.Float, nullable=False, index=True),
    sa.Column("key", sa.String, nullable=False),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("memory", sa.Text, nullable=False),
    sa.Column("turns", sa.Integer, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
)
SECRETS = sa.Table(
    "secrets",
    META,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("secret", sa.LargeBinary, nullable=False),
)


def keys_location(database: str) -> str:
    """Return the location of a database's keys.

    Raises:
        StoreError: evomem does not know the store: name a place with `--keys`.
    """
    if database.startswith(("postgresql://", "postgres://")):
        return database
    path = database.removeprefix("sqlite:///")
    if "://" in path:
        raise StoreError(
            f"where are the keys of {path.partition('://')[0]}://… to be? Name a file or a "
            "postgresql:// URL with --keys"
        )
    return path if path == ":memory:" else str(Path(path).expanduser().absolute()) + ".keys"


def connect(location: str) -> sa.Engine:
    """Return the database at a location, creating it if there is none."""
    if location.startswith(("postgresql://", "postgres://")):
        url = sa.make_url(location)
        schema = str(url.query.get("schema", "evomem")) + "_service"
        url = url.set(drivername="postgresql+psycopg").difference_update_query(["schema"])
        engine = sa.create_engine(url, pool_pre_ping=True, pool_size=4, max_overflow=4)
        return engine.execution_options(schema_translate_map={None: schema})
    if location == ":memory:":
        return sa.create_engine(
            "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
        )
    path = Path(location).expanduser().absolute()
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY})
    sa.event.listen(engine, "connect", _prepare)
    return engine


def _prepare(connection: Any, _: object) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
