"""Integrity keys: 32 random bytes, stored outside the database, for its seals."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

from evomem.errors import InputError, KeyMismatch, StoreError

KEY_BYTES = 32
KEY_VARIABLE = "EVOMEM_INTEGRITY_KEY"
FILE_VARIABLE = "EVOMEM_INTEGRITY_KEY_FILE"
ANCHOR = {"format", "database", "key", "time", "changes", "memories", "seal"}
"""The fields of an anchor (`Store.anchor`)."""


def find_key(given: bytes | str | Path | None = None) -> bytes | None:
    """Return the integrity key, None if there is none.

    Args:
        given: The key's 32 bytes, or the path of its file; None to look it up in the
            environment: `EVOMEM_INTEGRITY_KEY` (hex or base64), then `EVOMEM_INTEGRITY_KEY_FILE`.

    Raises:
        KeyMismatch: The value is not a key, or the file cannot be read.
    """
    if isinstance(given, bytes):
        return _checked(given, "integrity_key")
    if given is None:
        if text := os.environ.get(KEY_VARIABLE):
            return _decoded(text.encode("utf-8", "replace"), f"${KEY_VARIABLE}")
        given = os.environ.get(FILE_VARIABLE) or None
    return None if given is None else read_key(given)


def read_key(path: str | Path) -> bytes:
    """Return the key in a file: hex, base64, or 32 bytes. Raises `KeyMismatch`."""
    path = Path(path).expanduser()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise KeyMismatch(
            f"the integrity key {path} cannot be read ({error.strerror}): name a file that "
            "evomem keys integrity wrote"
        ) from error
    return data if len(data) == KEY_BYTES else _decoded(data, str(path))


def make_key(path: str | Path) -> bytes:
    """Write a new random key to a new file, readable by its owner only; return the key.

    Raises:
        StoreError: The file exists already, or cannot be written.
    """
    path = Path(path).expanduser()
    key = secrets.token_bytes(KEY_BYTES)
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(key.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreError(
            f"the integrity key {path} cannot be written ({error.strerror}): name a new file in a "
            "folder that exists"
        ) from error
    return key


def read_anchor(path: str | Path) -> dict[str, Any]:
    """Return the anchor in a file. Raises `InputError`."""
    try:
        anchor = json.loads(Path(path).expanduser().read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} has no anchor ({error}): evomem anchor --to writes one"
        ) from error
    if not isinstance(anchor, dict) or not ANCHOR <= anchor.keys():
        raise InputError(f"{path} has no anchor: evomem anchor --to writes one")
    return anchor


def key_id(key: bytes | None) -> str:
    """Return the id of a key, a digest that does not reveal it; "" for no key."""
    if not key:
        return ""
    return hashlib.blake2b(key, digest_size=8, person=b"evomem key id").hexdigest()


def _decoded(data: bytes, source: str) -> bytes:
    text = data.strip()
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        try:
            key = base64.b64decode(text, altchars=b"-_" if b"-" in text or b"_" in text else None)
        except (binascii.Error, ValueError):
            key = b""
    return _checked(key, source)


def _checked(key: bytes, source: str) -> bytes:
    if len(key) != KEY_BYTES:
        raise KeyMismatch(
            f"{source} holds no integrity key: it takes {KEY_BYTES} bytes, as hex or base64; "
            "evomem keys integrity makes one"
        )
    return key
