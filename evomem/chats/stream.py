"""Reads JSON and JSONL incrementally: items of a list, or one value per line.

It uses the standard library's scanner, which preserves a lone surrogate (half an emoji), so that it can
be reported: YAJL, which the fast backends of ijson use, replaces it with "?".
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from evomem.errors import InputError

CHUNK = 1 << 20  # bytes read at once
LONGEST_LINE = 8 << 20  # bytes; a list whose first line is longer is one document
_TAIL = 32  # an error this close to the end of the buffer may only mean that more must be read
_SPACE = " \t\n\r"
_BOM = b"\xef\xbb\xbf"


class Value(NamedTuple):
    """One JSON value of a file."""

    number: int
    """Its line in JSONL, otherwise its position in the file's list, from 1."""
    line: bool
    """Whether `number` is a line."""
    alone: bool
    """Whether it is the whole file."""
    value: object


def values(file: BinaryIO, name: str, bad: Callable[[InputError, str], None]) -> Iterator[Value]:
    """Yield the values of a JSON or JSONL file.

    Args:
        file: The content; read once, from its start.
        name: Its name in errors.
        bad: Called with an error and its place; it raises, or returns to continue if possible.

    Raises:
        InputError: The file is empty, or is not text.
    """
    source = _Source(file, name)
    start = source.peek_text()
    if not start:
        raise InputError(f"{name} is empty")
    if source.is_lines():
        yield from _lines(source, name, bad)
    elif start == "[":
        yield from _items(source, name, bad)
    else:
        try:
            yield Value(1, False, True, parse(source.rest(), name))
        except InputError as error:
            bad(error, name)


def parse(text: str, where: str) -> object:
    """Return the JSON value in `text`.

    Raises:
        InputError: The text is not JSON; the error names the place.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise _not_json(error, where, cut=_is_cut(error, len(text.rstrip()))) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON that can be used: {_reason(error)}") from error


class _Source:
    """A byte stream whose beginning can be inspected."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self.name = file, name
        self._head = self._read(CHUNK)
        if self._head.startswith(_BOM):
            self._head = self._head[len(_BOM) :]

    def peek_text(self) -> str:
        """Return the first character that is not white space, empty if there is none."""
        while not (head := self._head.lstrip()):
            self._head = self._read(CHUNK)  # skips leading white space
            if not self._head:
                return ""
        return chr(head[0])

    def is_lines(self) -> bool:
        """Return whether the first line is a complete value and other lines follow."""
        head = self._head.lstrip()
        limit = LONGEST_LINE if head[:1] == b"[" else None
        pieces = [head]
        read, end = len(head), head.find(b"\n")
        while end < 0 and (limit is None or read <= limit) and (more := self._read(CHUNK)):
            end = read + more.find(b"\n") if b"\n" in more else -1
            read += len(more)
            pieces.append(more)
        self._head += b"".join(pieces[1:])
        if end < 0:
            return False
        line, after = b"".join(pieces)[:end], b"".join(pieces)[end:]
        while not after.strip():
            after = self._read(CHUNK)
            self._head += after
            if not after:
                return False
        try:
            _DECODER.decode(line.decode())
        except (ValueError, RecursionError):
            return False
        return True

    def chunks(self) -> Iterator[bytes]:
        """Yield everything, once."""
        head, self._head = self._head, b""
        yield head
        while chunk := self._read(CHUNK):
            yield chunk

    def texts(self) -> Iterator[str]:
        """Yield everything as text, once."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        read = 0
        for chunk in self.chunks():
            try:
                yield decoder.decode(chunk)
            except UnicodeDecodeError as error:
                raise not_utf8(self.name, error, read) from error
            read += len(chunk)
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise not_utf8(self.name, error, read) from error

    def rest(self) -> str:
        """Return everything as text."""
        return "".join(self.texts())

    def _read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except (OSError, EOFError, ValueError) as error:
            raise InputError(f"{self.name} cannot be read: {error}") from error


def not_utf8(name: str, error: UnicodeDecodeError, read: int = 0) -> InputError:
    """Return the error for a byte that is not UTF-8."""
    return InputError(
        f"{name} is not UTF-8 (byte 0x{error.object[error.start]:02x} at {read + error.start}); "
        "save it as UTF-8 and import it again"
    )


def _lines(source: _Source, name: str, bad: Callable[[InputError, str], None]) -> Iterator[Value]:
    number, waiting = 0, b""
    for chunk in source.chunks():
        *lines, waiting = (waiting + chunk).split(b"\n")
        for line in lines:
            number += 1
            yield from _line(line, number, name, bad)
    yield from _line(waiting, number + 1, name, bad)


def _line(
    line: bytes, number: int, name: str, bad: Callable[[InputError, str], None]
) -> Iterator[Value]:
    if not line.strip():
        return
    where = f"{name}, line {number}"
    try:
        yield Value(number, True, False, parse(_decoded(line, where), where))
    except InputError as error:
        bad(error, where)


def _decoded(line: bytes, where: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise not_utf8(where, error) from error


def _items(source: _Source, name: str, bad: Callable[[InputError, str], None]) -> Iterator[Value]:
    items = _Items(source)
    number = 0
    while True:
        try:
            value = items.next()
        except _End:
            return
        except InputError as error:
            bad(error, name)  # the items after a broken one cannot be separated
            return
        number += 1
        yield Value(number, False, False, value)


class _End(Exception):
    """The list is over."""


class _Items:
    """The items of one list, decoded one by one from a window of text."""

    def __init__(self, source: _Source) -> None:
        self._texts, self._name = source.texts(), source.name
        self._text, self._at = "", 0
        self._line, self._column = 1, 1  # of the window's start
        self._more()
        self._expect("[")
        self._first = True

    def next(self) -> object:
        """Return the next item.

        Raises:
            _End: There is none.
            InputError: The text is not JSON, or ends too early.
        """
        mark = self._space()
        if mark == "]":
            self._expect("]")
            if self._space():
                raise self._error(json.JSONDecodeError("Extra data", self._text, self._at))
            raise _End
        if not self._first:
            self._expect(",")
            mark = self._space()
        self._first = False
        if not mark:
            raise self._cut()
        return self._value()

    def _value(self) -> object:
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
                if end < len(self._text) or not self._more():  # a number may continue after the end
                    self._at = end
                    return value
                continue
            except json.JSONDecodeError as error:
                if not _is_cut(error, len(self._text)):
                    raise self._error(error) from error
                if not self._more(double=True):
                    raise (
                        self._cut()
                        if _is_cut(error, len(self._text.rstrip()), tail=0)
                        else self._error(error)
                    ) from error
            except (ValueError, RecursionError) as error:
                raise InputError(
                    f"{self._name} is not JSON that can be used: {_reason(error)}"
                ) from error

    def _space(self) -> str:
        """Skip white space; return the character after it, empty at the end."""
        while True:
            text, at = self._text, self._at
            while at < len(text) and text[at] in _SPACE:
                at += 1
            self._at = at
            if at < len(text):
                return text[at]
            if not self._more():
                return ""

    def _expect(self, mark: str) -> None:
        here = self._space()
        if not here:
            raise self._cut()
        if here != mark:
            message = f"Expecting '{mark}' delimiter"
            raise self._error(json.JSONDecodeError(message, self._text, self._at))
        self._at += 1

    def _more(self, *, double: bool = False) -> bool:
        """Read more text and drop the used part; return whether there was more.

        An item longer than the window is decoded again each time, so the window doubles.
        """
        length = max(1, len(self._text) if double else 1)
        pieces, received = [self._text[self._at :]], 0
        while received < length and (text := next(self._texts, None)) is not None:
            pieces.append(text)
            received += len(text)
        if not received:
            return False
        used = self._text[: self._at]
        if newlines := used.count("\n"):
            self._line += newlines
            self._column = len(used) - used.rindex("\n")
        else:
            self._column += len(used)
        self._text, self._at = "".join(pieces), 0
        return True

    def _cut(self) -> InputError:
        return _cut_off(self._name)

    def _error(self, error: json.JSONDecodeError) -> InputError:
        line = self._line + error.lineno - 1
        column = error.colno + (self._column - 1 if error.lineno == 1 else 0)
        return InputError(f"{self._name} is not JSON: {error.msg} at line {line}, column {column}")


def _is_cut(error: json.JSONDecodeError, length: int, tail: int = _TAIL) -> bool:
    """Return whether the error may only mean that the text was cut off."""
    return error.pos >= length - tail or error.msg.startswith("Unterminated string")


def _not_json(error: json.JSONDecodeError, where: str, *, cut: bool) -> InputError:
    if cut and (error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated")):
        return _cut_off(where)
    place = f"line {error.lineno}, column {error.colno}"
    return InputError(f"{where} is not JSON: {error.msg} at {place}")


def _cut_off(where: str) -> InputError:
    return InputError(
        f"{where} ends in the middle of a value: it seems to be cut off; export it again"
    )


def _reason(error: BaseException) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def _no_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON value")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
