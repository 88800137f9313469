"""The files of a source (a file, a folder, a zip), opened one by one without unpacking to disk."""

from __future__ import annotations

import gzip
import io
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from evomem.errors import InputError

ENDINGS = (".json", ".jsonl", ".ndjson", ".af", ".db", ".sqlite", ".sqlite3", ".gz", ".zip")
"""Endings of files that may hold chats; in folders and archives, other files are skipped."""
MAX_FILES = 100_000
MAX_EXPANSION = 200  # times the compressed size; chats compress by a factor of 5 to 30
FREE_EXPANSION = 256 << 20  # bytes that any file may expand to, regardless of its size
_NUMBERED = re.compile(r"message_(\d+)\.json")


@dataclass(frozen=True, slots=True)
class Source:
    """One file of a source."""

    name: str
    """Its name in errors."""
    open: Callable[[], AbstractContextManager[BinaryIO]]
    single: bool = True
    """Whether it is the whole source: if so, it has to be a chat."""
    group: str | None = None
    """The conversation of the file's message, in folders with one file per message."""
    path: Path | None = None
    """Its path on disk, if it is neither compressed nor in an archive."""

    @contextmanager
    def path_on_disk(self) -> Iterator[Path]:
        """Provide a path of the file for SQLite, a temporary copy if needed."""
        if self.path is not None:  # next to its write-ahead log
            yield self.path
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "chats.db")
            with self.open() as file, path.open("wb") as copy:
                shutil.copyfileobj(file, copy)
            yield path


def sources(path: Path, name: str) -> Iterator[Source]:
    """Yield the files at a path.

    Raises:
        InputError: There is nothing to read.
    """
    if path.is_dir():
        yield from _folder(path, name)
    else:
        yield from _file(Source(name, partial(_opened, path, name), path=path))


def from_bytes(data: bytes, name: str) -> Iterator[Source]:
    """Yield the files in the bytes of one file."""
    yield from _file(Source(name, lambda: _nothing_to_close(io.BytesIO(data))))


@contextmanager
def _nothing_to_close(file: BinaryIO) -> Iterator[BinaryIO]:
    yield file


@contextmanager
def _opened(path: Path, name: str) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}") from error
    with file:
        yield file


def _file(source: Source, *, depth: int = 0) -> Iterator[Source]:
    """Yield the file, or its members if it is an archive."""
    try:
        with source.open() as file:
            start = file.read(4)
    except InputError as error:
        yield _broken(source, error)
        return
    if depth < 2 and start[:2] == b"\x1f\x8b":
        name = source.name.removesuffix(".gz")
        inner = Source(name, partial(_unzipped, source), source.single)
        yield from _file(inner, depth=depth + 1)
    elif depth < 2 and start in (b"PK\x03\x04", b"PK\x05\x06"):
        yield from _zip(source)
    else:
        yield source


def _broken(source: Source, error: InputError) -> Source:
    """Return a file that raises `error` when opened, so that it is reported in its place."""

    @contextmanager
    def fail() -> Iterator[BinaryIO]:
        raise error
        yield

    return replace(source, open=fail)


@contextmanager
def _unzipped(source: Source) -> Iterator[BinaryIO]:
    with source.open() as file, gzip.open(file) as text:
        yield cast(BinaryIO, io.BufferedReader(_Bounded(cast(BinaryIO, text), file, source.name)))


def _zip(source: Source) -> Iterator[Source]:
    """Yield the members of a zip that may be chats, read in place, so that their paths are harmless."""
    try:
        chosen = _members(source)
    except InputError as error:
        yield _broken(source, error)
        return
    members = [
        (
            PurePosixPath(info.filename),
            Source(f"{source.name}/{info.filename}", partial(_member, source, info), single=False),
        )
        for info in chosen
    ]
    for member in _in_order(members):
        yield from _file(member, depth=1)


def _members(source: Source) -> list[zipfile.ZipInfo]:
    with source.open() as file:
        archive = file if file.seekable() else io.BytesIO(file.read())
        try:
            with zipfile.ZipFile(archive) as opened:
                members = [info for info in opened.infolist() if not info.is_dir()]
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise InputError(f"{source.name} is a zip that cannot be read: {error}") from error
    if len(members) > MAX_FILES:
        raise InputError(f"{source.name} holds {len(members):,} files; at most {MAX_FILES:,}")
    chosen = [info for info in members if info.filename.lower().endswith(ENDINGS[:-1])]
    if not chosen:
        names = ", ".join(info.filename for info in members[:5]) or "nothing"
        raise InputError(f"{source.name} is a zip without a chat file; it holds {names}")
    return chosen


@contextmanager
def _member(source: Source, info: zipfile.ZipInfo) -> Iterator[BinaryIO]:
    name = f"{source.name}/{info.filename}"
    if info.flag_bits & 1:
        raise InputError(f"{name} is encrypted; unpack it and import its content")
    with source.open() as file:
        archive = file if file.seekable() else io.BytesIO(file.read())
        try:
            with zipfile.ZipFile(archive) as opened, opened.open(info) as member:
                bounded = _Bounded(cast(BinaryIO, member), None, name, info.compress_size)
                yield cast(BinaryIO, io.BufferedReader(bounded))
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error) as error:
            raise InputError(f"{name} cannot be read: {error}") from error


class _Bounded(io.RawIOBase):
    """A decompressed file that raises an error if it is too large for its compressed size."""

    def __init__(
        self, inner: BinaryIO, packed: BinaryIO | None, name: str, size: int | None = None
    ) -> None:
        self._inner, self._packed, self._name, self._size = inner, packed, name, size
        self._count = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the number of bytes read."""
        return self._count

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer))
        try:
            data = self._inner.read(len(view))
        except (EOFError, OSError, zlib.error, zipfile.BadZipFile) as error:
            raise InputError(
                f"{self._name} cannot be unpacked: {error}; download it again"
            ) from error
        view[: len(data)] = data
        self._count += len(data)
        packed = self._size if self._packed is None else self._packed.tell()
        if self._count > max(FREE_EXPANSION, MAX_EXPANSION * (packed or 0)):
            raise InputError(
                f"{self._name} grows to more than {MAX_EXPANSION} times its size when it is "
                "unpacked, which is not a chat; it was not read"
            )
        return len(data)


def _folder(path: Path, name: str) -> Iterator[Source]:
    """Yield the files below a folder that may be chats; links that lead out of it are ignored."""
    root = path.resolve()
    files: list[tuple[PurePosixPath, Source]] = []
    for file in sorted(path.rglob("*")):
        if not file.name.lower().endswith(ENDINGS) or not file.is_file():
            continue
        if not file.resolve().is_relative_to(root):
            continue
        relative = file.relative_to(path).as_posix()
        shown = f"{name}/{relative}"
        source = Source(shown, partial(_opened, file, shown), single=False, path=file)
        files.append((PurePosixPath(root.name, relative), source))
        if len(files) > MAX_FILES:
            raise InputError(f"{name} holds more than {MAX_FILES:,} files")
    if not files:
        raise InputError(f"{name} holds no chat file ({', '.join(ENDINGS)})")
    for source in _in_order(files):
        yield from _file(source)


def _in_order(members: list[tuple[PurePosixPath, Source]]) -> Iterator[Source]:
    """Yield files by name; files with one message each by number (Strands)."""

    def place(entry: tuple[PurePosixPath, Source]) -> tuple[str, int, str]:
        path = entry[0]
        number = _NUMBERED.fullmatch(path.name)
        return str(path.parent), int(number[1]) if number else -1, path.name

    agents: dict[str, set[str]] = {}
    for path, _ in members:
        if _is_part(path):
            agents.setdefault(_session(path), set()).add(path.parent.parent.name)
    for path, source in sorted(members, key=place):
        if not _is_part(path):
            yield source
            continue
        group = _session(path)
        if len(agents[group]) > 1:
            group = f"{group}/{path.parent.parent.name.removeprefix('agent_')}"
        yield replace(source, group=group)


def _is_part(path: PurePosixPath) -> bool:
    return _NUMBERED.fullmatch(path.name) is not None and path.parent.name == "messages"


def _session(path: PurePosixPath) -> str:
    """Return the id of the session in `session_1/agents/agent_1/messages/message_1.json`."""
    return path.parents[3].name.removeprefix("session_") if len(path.parents) > 3 else ""
