"""The common classes of all datasets, and helpers for their readers."""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from evomem.errors import EvomemError
from evomem.records import MAX_CHARS, Turn

CHUNK = 1 << 24  # characters per read of a file of many records
NUMBER_ENDS = frozenset(",]} \t\r\n")
"""The characters that may follow a number in JSON."""
UNLABELLED = "no evidence labelled"
ABSTENTION = "abstention"
ADVERSARIAL = "adversarial"  # LoCoMo's category 5: attributes one speaker's words to the other
UNKNOWN = "its evidence names no turn"


class DatasetError(EvomemError):
    """A dataset is missing or not in its documented layout; the message names the file and position."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question about one conversation, and the turns that answer it."""

    text: str
    type: str
    evidence: tuple[int, ...]
    """The indices of turns from 0, ascending; a question without evidence is not scored."""
    why_left_out: str = ""
    """The reason for missing evidence, in a few words."""
    answer: str = ""
    id: str = ""
    """Unique in its dataset."""
    asked: str = ""
    """The date of the question, as written in the dataset."""
    choices: tuple[str, ...] = ()
    """The possible answers, each preceded by its letter: "(a) ..."; `answer` is the letter."""
    place: int | None = None
    """The number of turns before the question, if it is a message of the conversation itself. None if it is
    asked after the last turn."""

    @property
    def unanswerable(self) -> bool:
        """Whether the correct answer is that the conversation does not say."""
        return self.why_left_out == ABSTENTION or self.type == ADVERSARIAL


@dataclass(slots=True)
class Conversation:
    """Turns in order, and questions about them; readers add them one by one."""

    id: str
    turns: list[Turn] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    places: dict[Hashable, int] = field(default_factory=dict)
    """The dataset's name of a turn → its index in `turns`."""
    repaired: int = 0
    """The number of evidence labels that name a turn only after normalisation of their spelling."""
    dangling: int = 0
    """The number of evidence labels that name no turn even after normalisation."""
    cut: int = 0
    """The number of turns cut at `MAX_CHARS`."""

    def add_turn(
        self,
        name: Hashable,
        text: object,
        where: str,
        *,
        role: str = "user",
        speaker: str | None = None,
        session: object = None,
        time: datetime | None = None,
    ) -> None:
        """Append a turn with the dataset's `name` for it; a turn without text is left out.

        Raises:
            DatasetError: It cannot be a turn; `where` says in the message which turn it is.
        """
        if not isinstance(text, str):
            raise DatasetError(f"{where}: the text is {text!r:.60}, expected a string")
        if name in self.places:
            raise DatasetError(f"{where}: an earlier turn has the same id {name!r}")
        if not text.strip():
            return
        if len(text) > MAX_CHARS:
            text, self.cut = text[:MAX_CHARS], self.cut + 1
        try:
            turn = Turn(
                user=text if role == "user" else "",
                assistant=text if role == "assistant" else "",
                speaker=speaker,
                time=time,
                session=None if session is None else str(session),
            )
        except EvomemError as error:
            raise DatasetError(f"{where}: {error}") from error
        self.places[name] = len(self.turns)
        self.turns.append(turn)

    def add_question(
        self,
        text: object,
        kind: str,
        names: Iterable[Hashable],
        where: str,
        why: str = "",
        *,
        answer: object = None,
        id: str = "",
        asked: str = "",
        choices: Iterable[str] = (),
        place: int | None = None,
    ) -> None:
        """Append a question whose evidence is the turns with these names; unknown names are dropped."""
        if not isinstance(text, str) or not text.strip():
            raise DatasetError(f"{where}: the question is {text!r:.60}, expected text")
        names = list(names)
        evidence = sorted({self.places[name] for name in names if name in self.places})
        if not evidence:
            why = why or (UNKNOWN if names else UNLABELLED)
        self.questions.append(
            Question(
                text,
                kind,
                tuple(evidence),
                "" if evidence else why,
                "" if answer is None else str(answer),  # years are numbers in some files
                id or f"{self.id}#{len(self.questions)}",
                asked,
                tuple(choices),
                place,
            )
        )


@dataclass(frozen=True, slots=True)
class Dataset:
    """Conversations from one file or folder."""

    name: str
    path: Path
    sha256: str
    """The digest of the file, or of the folder's files in the order of their names."""
    conversations: list[Conversation]

    def counts(self) -> dict[str, Any]:
        """Return the numbers of conversations, turns, scored questions and left-out questions by reason."""
        questions = [q for conversation in self.conversations for q in conversation.questions]
        left_out: dict[str, int] = {}
        for question in questions:
            if question.why_left_out:
                left_out[question.why_left_out] = left_out.get(question.why_left_out, 0) + 1
        return {
            "conversations": len(self.conversations),
            "turns": sum(len(conversation.turns) for conversation in self.conversations),
            "questions": len(questions),
            "scored": sum(bool(question.evidence) for question in questions),
            "left_out": left_out,
            "evidence_repaired": sum(conversation.repaired for conversation in self.conversations),
            "evidence_dangling": sum(conversation.dangling for conversation in self.conversations),
            "turns_cut": sum(conversation.cut for conversation in self.conversations),
        }


def make_dataset(name: str, path: Path, files: list[Path], read: Callable[[Path], Any]) -> Dataset:
    """Return the dataset `name` at `path`, which consists of `files`; `read` reads one file.

    Raises:
        DatasetError: There is no question, or an id is not unique.
    """
    digest = hashlib.sha256()
    conversations: list[Conversation] = []
    for file in files:
        conversations += read(file)
        digest.update(file.read_bytes())
    if not any(conversation.questions for conversation in conversations):
        raise DatasetError(f"{path} contains no question")
    for what, ids in (
        ("conversations", [conversation.id for conversation in conversations]),
        (
            "questions",
            [question.id for conversation in conversations for question in conversation.questions],
        ),
    ):
        duplicates = [id for id, count in Counter(ids).items() if count > 1]
        if duplicates:
            raise DatasetError(f"{path}: two {what} have the id {duplicates[0]!r}")
    return Dataset(name, path, digest.hexdigest(), conversations)


def with_dates(conversation: Conversation) -> Conversation:
    """Return the conversation with the date before every turn: "[8 May 2023] Caroline: ..."."""
    turns = []
    for turn in conversation.turns:
        speaker = turn.speaker or ("User" if turn.user else "Assistant")
        date = f"[{turn.time.day} {turn.time:%B %Y}] " if turn.time else ""
        turns.append(replace(turn, speaker=date + speaker))
    return replace(conversation, turns=turns)


def shortened(conversation: Conversation, turns: int) -> Conversation:
    """Return the first `turns` turns, and the questions that are asked and answered within them."""
    return replace(
        conversation,
        turns=conversation.turns[:turns],
        questions=[
            question
            for question in conversation.questions
            if (question.place or 0) < turns and all(turn < turns for turn in question.evidence)
        ],
    )


def read_json(path: Path) -> Any:
    """Return the JSON value in a plain or .xz file."""
    with open_text(path) as file:
        try:
            return json.load(file)
        except (ValueError, lzma.LZMAError, EOFError) as error:
            raise DatasetError(f"{path} is not JSON: {error}") from error


def read_records(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield (position, value) of a JSON array in a plain, .gz or .xz file, without loading all of it."""
    with open_text(path) as file:
        stream = JsonStream(file, path)
        for number in stream.entries("[", "]"):
            yield f"{path} record {number}", stream.value()
        stream.end()


def read_members(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield (key, value) of a JSON object in a plain, .gz or .xz file, without loading all of it."""
    with open_text(path) as file:
        stream = JsonStream(file, path)
        for _ in stream.entries("{", "}"):
            yield stream.key(), stream.value()
        stream.end()


class JsonStream:
    """Reads a large JSON text piece by piece: enters lists and objects, and returns single values.

    Every method raises `DatasetError` if the text is not JSON of the expected structure.
    """

    def __init__(self, file: TextIO, path: Path) -> None:
        """Read from `file`; messages call it `path`."""
        self._file, self._path = file, path
        self._decoder = json.JSONDecoder()
        self._text, self._at = "", 0

    def peek(self) -> str:
        """Return the next character other than white space, empty at the end."""
        while True:
            while self._at < len(self._text):
                if not self._text[self._at].isspace():
                    return self._text[self._at]
                self._at += 1
            if not self._read_piece():
                return ""

    def entries(self, opening: str, closing: str) -> Iterator[int]:
        """Enter a list or object, yield the number of each entry before it is read, and leave it."""
        self._take(opening)
        number = 0
        while self.peek() != closing:
            if number:
                self._take(",")
            yield number
            number += 1
        self._take(closing)

    def key(self) -> str:
        """Read the key of an object's entry, and the colon."""
        key: str = expect(self.value(), str, f"{self._path} key")
        self._take(":")
        return key

    def value(self) -> Any:
        """Read a complete value."""
        while True:
            start = self.peek()
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._read_piece():
                    raise self._damaged("a value was expected") from error
                continue
            length = end - self._at
            # A number may continue in the next piece; other values are complete.
            if start in '{["' or self._text[end : end + 1] in NUMBER_ENDS or not self._read_piece():
                self._at += length
                return value

    def end(self) -> None:
        """Check that nothing follows."""
        if self.peek():
            raise self._damaged("the end of the file was expected")

    def _take(self, character: str) -> None:
        if self.peek() != character:
            raise self._damaged(f"{character!r} was expected")
        self._at += 1

    def _read_piece(self) -> bool:
        """Read the next piece and discard the text that was consumed; return whether there was one."""
        try:
            piece = self._file.read(CHUNK)
        except (OSError, UnicodeDecodeError, lzma.LZMAError, EOFError) as error:
            raise DatasetError(f"{self._path} is damaged: {error}") from error
        self._text, self._at = self._text[self._at :] + piece, 0
        return bool(piece)

    def _damaged(self, what: str) -> DatasetError:
        text = self._text[self._at : self._at + 20] or "the end of the file"
        return DatasetError(
            f"{self._path} is not JSON of the expected structure: {what}, found {text!r}"
        )


def read_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield (position, JSON value) of every line in a plain, .gz or .xz file."""
    with open_text(path) as file:
        number = 0
        try:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{path} line {number}", json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DatasetError(f"{path} line {max(1, number)} is not JSON: {error}") from error
        except (OSError, lzma.LZMAError, EOFError) as error:
            raise DatasetError(f"{path} is damaged after line {number}: {error}") from error


def expect(value: object, kind: type | tuple[type, ...], where: str) -> Any:
    """Return `value` if it is of `kind`; otherwise raise `DatasetError` with its position `where`."""
    if isinstance(value, kind):
        return value
    kinds = kind if isinstance(kind, tuple) else (kind,)
    names = " or ".join(allowed.__name__ for allowed in kinds)
    raise DatasetError(f"{where}: expected {names}, found {type(value).__name__} {value!r:.60}")


def expect_objects(value: object, where: str) -> list[dict[str, Any]]:
    """Return `value` if it is a list of objects, or [] for None; otherwise raise `DatasetError`."""
    items: list[dict[str, Any]] = expect([] if value is None else value, list, where)
    for position, item in enumerate(items):
        expect(item, dict, f"{where} {position}")
    return items


def parse_time(text: object, layout: str, where: str) -> datetime | None:
    """Return a local time without a zone as UTC, or None for None.

    The datasets have no time zones. Only the order and calendar dates are used, which UTC preserves.
    """
    if text is None:
        return None
    try:
        return datetime.strptime(f"{text} +0000", f"{layout} %z")
    except ValueError as error:
        raise DatasetError(f"{where}: the time {text!r:.60} is not like {layout!r}") from error


def open_text(path: Path) -> TextIO:
    """Open a plain, .gz or .xz text file.

    Raises:
        DatasetError: It cannot be opened.
    """
    try:
        if path.suffix == ".xz":
            return lzma.open(path, "rt", encoding="utf-8")
        if path.suffix == ".gz":
            return gzip.open(path, "rt", encoding="utf-8")
        return path.open(encoding="utf-8")
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from error
