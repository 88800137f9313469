"""The loss: inside its history, a question must be nearest to the turns that answer it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from evomem.mini.model import QUERY, TURN, MiniModel
from evomem.mini.reading import Tokens, lower, queues_of, show, upper, upper_alone

TEMPERATURE = 0.05  # chosen for the small encoder; EvoEmbedding trains with 0.1
ALONE = 0.5  # weight of the reading alone; both together have 1
EVOLVED = 0.5
HIDDEN = -1e4  # finite, so that a question all of whose turns are evidence has a gradient
ORDER = 0.2  # weight of telling questions that ask for order from all others


@dataclass(frozen=True, slots=True)
class Sample:
    """One history, tokenised, as one step of training sees it."""

    turns: list[Tokens]
    questions: list[Tokens]
    evidence: list[tuple[int, ...]]
    places: list[int]
    """Of each question: how many turns have been said when it is asked."""
    ordered: list[bool | None]
    """Of each question: whether it asks for order; None where its words do not decide that."""
    linked: list[bool]
    """Of each question: whether its evidence may say nothing without the turns before it."""
    queue: int
    """Turns that may be looked at; 0: the memory is off."""
    now: Tensor
    """(N + 1,) how many turns had been read before each turn, and before the questions."""


def loss_of(
    model: MiniModel,
    sample: Sample,
    *,
    only_order: bool = False,
    base: MiniModel | None = None,
    keep: float = 0.0,
) -> tuple[Tensor, float]:
    """Return the loss of one history, and recall@10 of its questions.

    Args:
        model: The network.
        sample: The history.
        only_order: Whether nothing is trained but what queries ask for; those that ask for order are
            then read as such, so that it learns from each of them which end of time it asks for.
        base: A network with the same lower layers, whose ranking by the text alone is kept.
        keep: Weight of that.
    """
    scores = score(model, sample, told=only_order, base=base)
    loss = retrieval(scores.both, sample.evidence)
    if scores.base is not None:
        loss = loss + keep * departure(scores.alone, scores.base)
    if sample.queue and not only_order:
        loss = loss + EVOLVED * retrieval(scores.evolved, sample.evidence)
        pairs = zip(sample.ordered, sample.linked, strict=True)
        plain = [row for row, (ordered, linked) in enumerate(pairs) if not (ordered or linked)]
        if plain:  # what needs neither must be found by the text alone as well
            evidence = [sample.evidence[row] for row in plain]
            loss = loss + ALONE * retrieval(scores.alone[plain], evidence)
    if sample.queue:
        known = [row for row, ordered in enumerate(sample.ordered) if ordered is not None]
        if known:
            asks = torch.tensor([float(sample.ordered[row] or 0) for row in known])
            loss = loss + ORDER * F.binary_cross_entropy_with_logits(scores.asks[known], asks)
    return loss, recall(scores.both, sample.evidence, 10)


@dataclass(frozen=True, slots=True)
class Scores:
    """How near each question (Q) is to each turn (N), by the reading that is compared.

    Turns that are said after a question is asked have minus infinity.
    """

    alone: Tensor
    """(Q, N) cosines of texts read alone."""
    evolved: Tensor
    """(Q, N) in the light of the queue; `alone` if the memory is off."""
    both: Tensor
    """(Q, N) as the encoder weighs them; a query's length does not change its ranking."""
    asks: Tensor
    """(Q,) logits of whether a question asks for order; zeros if the memory is off."""
    base: Tensor | None = None
    """(Q, N) cosines of texts that the base reads alone, if it was given."""


def score(
    model: MiniModel, sample: Sample, *, told: bool = False, base: MiniModel | None = None
) -> Scores:
    """Read a history and its questions, each text once.

    Args:
        model: The network.
        sample: The history.
        told: Whether queries are read as asking for order if they do, whatever the network takes
            them for.
        base: A network with the same lower layers.
    """
    now, count = sample.now, len(sample.turns)
    said, asked = (
        lower(model, texts, role, now.device)
        for texts, role in ((sample.turns, TURN), (sample.questions, QUERY))
    )
    places = torch.tensor(sample.places)
    later = torch.arange(count) >= places[:, None]
    kept = None
    if base is not None:
        with torch.no_grad():
            contents = upper_alone(base, asked), upper_alone(base, said)
            kept = (contents[0] @ contents[1].T).masked_fill(later, -torch.inf)
    if not sample.queue:
        contents = upper_alone(model, asked), upper_alone(model, said)
        with torch.autocast("cpu", enabled=False):
            found = (contents[0] @ contents[1].T).masked_fill(later, -torch.inf)
        return Scores(found, found, found, torch.zeros(len(places)), kept)
    [queue] = queues_of(model, said, [show(model, said.latents[:0])], [count])
    turns = upper(model, said, [queue], [0] * count, range(count), sample.queue)
    questions = upper(model, asked, [queue], [0] * len(places), sample.places, sample.queue)
    asked_now = now[places]
    labels = [math.nan if ordered is None else float(ordered) for ordered in sample.ordered]
    known = torch.tensor(labels) if told else None
    with torch.autocast("cpu", enabled=False):  # cosines need more than three digits
        products = (
            questions[0] @ turns[0].T,
            questions[1] @ turns[1].T,
            model.weighed(*questions, asked_now, known) @ model.turn_vectors(*turns, now[:-1]).T,
        )
        asks = model.wishes(questions[0], asked_now)[1][:, 0]
    alone, evolved, both = (each.masked_fill(later, -torch.inf) for each in products)
    return Scores(alone, evolved, both, asks, kept)


def departure(scores: Tensor, base: Tensor) -> Tensor:
    """Return how far a ranking is from the base's: the mean divergence of its softmax over turns.

    Args:
        scores: (Q, N).
        base: (Q, N); minus infinity where `scores` is.
    """
    left, right = (
        (each / TEMPERATURE).masked_fill(each.isinf(), HIDDEN).log_softmax(1)
        for each in (scores, base)
    )
    return F.kl_div(left, right, reduction="batchmean", log_target=True)


def retrieval(scores: Tensor, evidence: Sequence[tuple[int, ...]]) -> Tensor:
    """Return the mean cross-entropy of each piece of evidence against all that is none.

    Args:
        scores: (Q, N).
        evidence: The turns that answer each question.
    """
    return against_the_rest(scores / TEMPERATURE, evidence).mean()


def against_the_rest(logits: Tensor, evidence: Sequence[tuple[int, ...]]) -> Tensor:
    """Return, for each question, the mean cross-entropy of its evidence: (Q,).

    Each piece of evidence stands against all turns that are none, not against the other pieces.

    Args:
        logits: (Q, N).
        evidence: The turns that answer each question.
    """
    right = torch.zeros_like(logits, dtype=torch.bool)
    for row, found in enumerate(evidence):
        right[row, list(found)] = True
    wrong = logits.masked_fill(right, HIDDEN).logsumexp(1, keepdim=True)
    losses = F.softplus(wrong - logits.masked_fill(~right, 0)) * right
    return losses.sum(1) / right.sum(1)


def recall(scores: Tensor, evidence: Sequence[tuple[int, ...]], k: int) -> float:
    """Return the mean share of the evidence among the best `k` of scores (Q, N)."""
    best = scores.topk(min(k, scores.shape[1])).indices.tolist()
    shares = [len(set(b) & set(e)) / len(e) for b, e in zip(best, evidence, strict=True)]
    return sum(shares) / len(shares)
