"""The loss: inside its history, a question must be nearest to the turns that answer it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from evomem.mini.model import QUERY, TURN, MiniModel
from evomem.mini.reading import Tokens, contents_of

TEMPERATURE = 0.05  # chosen for the small encoder; EvoEmbedding trains with 0.1
ALONE = 0.5  # weight of the loss of the text alone
NEUTRAL = 0.5  # weight of the order that is asked for by questions that do not depend on order
THREADS = 0.2  # weight of recognising turns about the same thing


@dataclass(frozen=True, slots=True)
class Sample:
    """One tokenised history of a training step."""

    turns: list[Tokens]
    questions: list[Tokens]
    evidence: list[tuple[int, ...]]
    rivals: list[tuple[int, ...]]
    """For each question, turns about the same thing that only their order distinguishes from the evidence."""
    threads: list[tuple[int, ...]]
    queue: int
    """Length of the queue in turns; 0 disables the memory."""
    now: Tensor
    """(N + 1,) the number of turns read before each turn, and before the questions."""


def loss_of(model: MiniModel, sample: Sample) -> tuple[Tensor, float]:
    """Return the loss of one history, and recall@10 of its questions."""
    scores = score(model, sample)
    loss = retrieval(scores.both, sample.evidence)
    if sample.queue:
        plain = [row for row, rivals in enumerate(sample.rivals) if not rivals]
        if plain:
            # Questions that do not depend on order must work without memory, and ask for none.
            loss = loss + ALONE * retrieval(
                scores.alone[plain], [sample.evidence[r] for r in plain]
            )
            loss = loss + NEUTRAL * scores.asked[plain].square().sum(-1).mean()
        if sample.threads:
            loss = loss + THREADS * recognition(model, scores.subjects, sample.threads)
    return loss, recall(scores.both, sample.evidence, 10)


@dataclass(frozen=True, slots=True)
class Similarities:
    """The similarity of each question (Q) to each turn (N), and what it is made of."""

    alone: Tensor
    """(Q, N) cosines of texts read alone."""
    both: Tensor
    """(Q, N) products of embeddings; `alone` if the memory is disabled."""
    asked: Tensor
    """(Q, order) the questions' coordinates of order."""
    subjects: Tensor
    """(N, match) the keys of the turns' subjects."""


def score(model: MiniModel, sample: Sample) -> Similarities:
    """Read a history and its questions, each text once."""
    now = sample.now
    turns, questions = (
        contents_of(model, texts, role, now.device)
        for texts, role in ((sample.turns, TURN), (sample.questions, QUERY))
    )
    alone, subjects = questions @ turns.T, model.subjects(turns)
    asked = model.asked(questions, now[-1:].expand(len(questions)))
    if not sample.queue:
        return Similarities(alone, alone, asked, subjects)
    mentions = model.mentions(subjects, sample.queue)
    embedded = model.turn_vectors(turns, model.before(turns, sample.queue), now[:-1], mentions)
    return Similarities(alone, model.query_vectors(questions, asked) @ embedded.T, asked, subjects)


def retrieval(scores: Tensor, evidence: Sequence[tuple[int, ...]]) -> Tensor:
    """Return the mean cross-entropy of each piece of evidence against all other turns.

    Args:
        scores: (Q, N).
        evidence: The turns that answer each question.
    """
    return against_the_rest(scores / TEMPERATURE, evidence).mean()


def against_the_rest(logits: Tensor, evidence: Sequence[tuple[int, ...]]) -> Tensor:
    """Return, for each question, the mean cross-entropy of its evidence: (Q,).

    Each piece of evidence competes with the turns that are not evidence, not with the other pieces.

    Args:
        logits: (Q, N).
        evidence: The turns that answer each question.
    """
    right = torch.zeros_like(logits, dtype=torch.bool)
    for row, relevant in enumerate(evidence):
        right[row, list(relevant)] = True
    wrong = logits.masked_fill(right, -torch.inf).logsumexp(1, keepdim=True)
    losses = F.softplus(wrong - logits) * right
    return losses.sum(1) / right.sum(1)


def recognition(model: MiniModel, subjects: Tensor, threads: Sequence[tuple[int, ...]]) -> Tensor:
    """Return the loss of recognising the turns of one thread among all, by their keys (N, match)."""
    same = torch.zeros(len(subjects), len(subjects), dtype=torch.bool)
    known = sorted({turn for thread in threads for turn in thread})
    for thread in threads:
        for turn in thread:
            same[turn, list(thread)] = True
    likeness = model.alike(subjects[known], subjects)
    same, own = same[known], torch.eye(len(subjects), dtype=torch.bool)[known]
    return F.softplus(-likeness)[same & ~own].mean() + F.softplus(likeness)[~same].mean()


def recall(scores: Tensor, evidence: Sequence[tuple[int, ...]], k: int) -> float:
    """Return the mean share of the evidence among the best `k` of scores (Q, N)."""
    best = scores.topk(min(k, scores.shape[1])).indices.tolist()
    shares = [len(set(b) & set(e)) / len(e) for b, e in zip(best, evidence, strict=True)]
    return sum(shares) / len(shares)
