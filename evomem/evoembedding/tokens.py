"""Texts → token ids: both protocols of the reference, and the turns of a stream.

The client interprets special-token strings in contents, as the reference does. The texts of a memory are
*defused* first: a user cannot end a turn by writing `<|im_end|>`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

from evomem.errors import CheckpointError, EncoderError
from evomem.records import Turn

Message = Mapping[str, str]

INSTRUCTION = (
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
)


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """The ids that the reference hard-codes (see "Special ids"); these defaults are Qwen3's."""

    end: int = 151643
    """Ends every embedded or evolved turn: `<|endoftext|>`."""
    im_end: int = 151645
    """Ends a message of a chat: `<|im_end|>`."""
    user: int = 872
    """The word `user` after `<|im_start|>`."""
    # fmt: off
    instruction: tuple[int, ...] = (
        641, 1235, 25, 16246, 264, 3482, 2711, 3239, 11, 17179, 9760, 46769, 429, 4226, 279, 3239,
        198, 2859, 25,
    )
    # fmt: on
    """The text before a query in protocol R."""

    @classmethod
    def of(cls, tokenizer: Any, given: Mapping[str, Any] | SpecialIds | None) -> SpecialIds:
        """Return `given`; missing ids are taken from `tokenizer`, or else from Qwen3.

        Raises:
            EncoderError: `given` has an unknown key.
        """
        if isinstance(given, SpecialIds):
            return given
        names = [field.name for field in fields(cls)]
        unknown = set(given or {}) - set(names)
        if unknown:
            raise EncoderError(f"special_ids has {sorted(unknown)}; known are {', '.join(names)}")
        special: dict[str, Any] = {"instruction": tuple(_encode(tokenizer, INSTRUCTION))}
        for name, text in (("end", "<|endoftext|>"), ("im_end", "<|im_end|>"), ("user", "user")):
            ids = _encode(tokenizer, text)
            if len(ids) == 1:
                special[name] = ids[0]
        special.update(given or {})
        special["instruction"] = tuple(special["instruction"])
        return cls(**special)

    @property
    def largest(self) -> int:
        """The largest of these ids."""
        return max(self.end, self.im_end, self.user, *self.instruction)


@dataclass(frozen=True, slots=True)
class Segment:
    """One turn in the form that the model reads."""

    ids: tuple[int, ...]
    """The ids that evolve the memory."""
    text: tuple[int, ...]
    """The ids that are embedded; empty if only the memory is needed."""
    content: bytes
    """The input of the state's digest."""

    @classmethod
    def of_ids(cls, ids: Sequence[int], text: Sequence[int] = ()) -> Segment:
        """Return a segment whose content consists of its ids."""
        return cls(tuple(ids), tuple(text), repr((list(ids), list(text))).encode())


class Tokens:
    """Formatting and splitting with one tokenizer."""

    def __init__(self, tokenizer: Any, special: SpecialIds) -> None:
        self.tokenizer = tokenizer
        self.special = special
        added = sorted(tokenizer.get_added_vocab(), key=len, reverse=True)
        self._special_text = re.compile("|".join(map(re.escape, added)) or r"(?!)")

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`; special-token strings become special ids."""
        return _encode(self.tokenizer, text)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`, without special tokens."""
        return cast(str, self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def defuse(self, text: str) -> str:
        """Return `text` with a space inside every special-token string: `< |im_end|>`."""
        return self._special_text.sub(lambda m: f"{m[0][0]} {m[0][1:]}", text)

    def ended(self, text: str) -> list[int]:
        """Return the ids of a turn, query or text in protocol E, with one end token (see "Protocol E")."""
        ids = self.encode(text)
        return ids if ids and ids[-1] == self.special.end else [*ids, self.special.end]

    def history(self, text: str) -> list[int]:
        """Return the ids of a history turn in protocol R, followed by an end token (see "Protocol R")."""
        return [*self.encode(text), self.special.end]

    def query(self, text: str) -> list[int]:
        """Return the ids of a query in protocol R: instruction, query, end token (see "Protocol R")."""
        return [*self.special.instruction, *self.history(text)]

    def chat(self, messages: Sequence[Message], *, answer: bool = True) -> list[int]:
        """Return the ids of a conversation in the tokenizer's own chat format.

        Args:
            messages: The conversation, query included.
            answer: Whether to append the opening of the assistant's answer.

        Raises:
            CheckpointError: The tokenizer has no chat template, or the template rejects the messages.
        """
        try:
            text = self.tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tokenize=False,
                add_generation_prompt=answer,
            )
        except Exception as error:  # a template may raise anything
            raise CheckpointError(
                f"the base's chat template cannot render these messages: {error}; "
                "pass base= with a folder whose tokenizer has a suitable template"
            ) from error
        return self.encode(text)

    def split_points(self, ids: Sequence[int]) -> list[int]:
        """Return the indices at which the segments of a conversation begin, and its end (see "Segments")."""
        # A segment ends after `<|im_end|>` and its newline if the next message is from the user.
        points, length = [0], len(ids)
        for i, token in enumerate(ids):
            opens_turn = i + 3 < length and ids[i + 3] == self.special.user
            if token == self.special.im_end and opens_turn:
                points.append(i + 2)
        return points if points[-1] == length else [*points, length]

    def segments(self, ids: Sequence[int]) -> list[list[int]]:
        """Return the segments of a conversation: those of the turns, then that of the query (see "Segments")."""
        points = self.split_points(ids)
        return [list(ids[a:b]) for a, b in zip(points, points[1:], strict=False)]

    def turn(self, turn: Turn) -> Segment:
        """Return a turn of a stream, as protocol R reads it, with its contents defused.

        A missing side becomes an empty message, as in the evaluations of the reference, so that every
        turn consists of a user message and an assistant message.
        """
        user, assistant = turn.user, turn.assistant
        if turn.speaker and user:
            user = f"{turn.speaker}: {user}"
        elif turn.speaker:
            assistant = f"{turn.speaker}: {assistant}"
        ids = self.exchange(self.defuse(user), self.defuse(assistant))
        return Segment(tuple(ids), tuple(self.history(self.defuse(turn.text))), turn.content)

    def exchange(self, user: str, assistant: str) -> list[int]:
        """Return the segment of one exchange, as it is when another message follows."""
        ids = self.chat(conversation((user, assistant)), answer=False)
        return ids[: self.split_points(ids)[-2]]

    def check_turnwise(self) -> None:
        """Check that a conversation is the concatenation of its turns, which streaming requires.

        Raises:
            CheckpointError: It is not, for instance because the template adds a default system
                prompt.
        """
        first, second = ("Hello.", "Hi!"), ("And now?", "")
        ids = self.chat(conversation(first, second), answer=False)
        if self.segments(ids)[:-1] != [self.exchange(*first), self.exchange(*second)]:
            raise CheckpointError(
                "with this tokenizer's chat template a conversation is not the concatenation of "
                "its turns, so it cannot be read as a stream; pass base= with a folder whose "
                "template adds nothing else, or special_ids= if it marks turns with other ids"
            )


def conversation(*exchanges: tuple[str, str]) -> list[Message]:
    """Return `(user, assistant)` pairs as messages, with a short question after them."""
    messages: list[Message] = []
    for user, assistant in exchanges:
        messages.append({"role": "user", "content": user})
        messages.append({"role": "assistant", "content": assistant})
    return [*messages, {"role": "user", "content": "?"}]


def pair_by_position(history: Sequence[Message]) -> list[str]:
    r"""Return the turns of a history as the reference formats them: by position, not role (see "Turns").

    >>> pair_by_position([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}])
    ['User: Hi\nAssistant: Yo']
    """
    turns = []
    for user, assistant in zip(history[::2], history[1::2], strict=False):
        u, a = user["content"], assistant["content"]
        if not u:
            turns.append(f"Assistant: {a}")
        else:
            turns.append(f"User: {u}\nAssistant: {a}" if a else f"User: {u}")
    if len(history) % 2:
        turns.append(f"User: {history[-1]['content']}")
    return turns


def _encode(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids
