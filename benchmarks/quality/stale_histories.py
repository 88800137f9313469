"""Histories for `stale`: one person's changing states, with unrelated turns between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from random import Random

from benchmarks.quality import stale_more_topics, stale_topics
from benchmarks.quality.stale_topics import Topic, Wordings
from benchmarks.quality.temporal_histories import filler
from evomem import Turn

TOPICS = {**stale_topics.TOPICS, **stale_more_topics.TOPICS}
WORDINGS = {**stale_topics.WORDINGS, **stale_more_topics.WORDINGS}

TOPICS_PER_HISTORY = 6
PLANS_PER_HISTORY = 2
RECALLED = 0.3  # share of topics whose old value is mentioned again after it has changed
BEGIN = datetime(2024, 1, 8, 8, tzinfo=timezone.utc)
SINGLE = 0.25  # share of topics whose value never changes, though they are mentioned again
PRESENT = ("current", "now", "latest", "recalled", "cancelled")
"""Kinds of questions for the newest value."""
PAST = ("first", "before", "named")
"""Kinds of questions for an older value."""
KINDS = (*PRESENT, *PAST, "single", "single now", "times")
"""All kinds; `single` and `single now` ask for a value that never changed, `times` for all values."""
_OTHERS = "My cousin|A colleague of mine|My neighbour|An old friend"
_REPLIES = "Noted.|Thanks, I will keep that in mind.|Good to know.|All right."


@dataclass(frozen=True, slots=True)
class StateQuestion:
    """A question about one topic of a history."""

    text: str
    kind: str
    wanted: tuple[int, ...]
    """Indices of the turns that answer it: one, except for `times`."""
    rivals: tuple[int, ...]
    """Indices of turns with other values, which should rank below."""


@dataclass(slots=True)
class StateHistory:
    """One history and its questions."""

    turns: list[Turn]
    questions: list[StateQuestion]


def make_histories(half: str, count: int, turns: int, seed: int) -> list[StateHistory]:
    """Return `count` histories of `turns` turns, from the topics and wordings of one half."""
    return [make_history(half, turns, Random(f"stale {half} {seed} {n}")) for n in range(count)]


def make_history(half: str, count: int, rng: Random) -> StateHistory:
    """Return a history of `count` turns."""
    words = WORDINGS[half]
    threads = [_mentions(topic, rng) for topic in rng.sample(TOPICS[half], TOPICS_PER_HISTORY)]
    plans = rng.sample(words.plans, PLANS_PER_HISTORY)
    texts_of = [[text for text, _ in mentions] for _, mentions, _ in threads]
    texts_of += [
        [_fill(words.begun, plan, rng), _fill(words.cancelled, plan, rng)] for plan in plans
    ]
    owners = [n for n, texts in enumerate(texts_of) for _ in texts]
    places = sorted(rng.sample(range(count), len(owners)))
    rng.shuffle(owners)
    text_at: dict[int, str] = {}
    turns_of: list[list[int]] = [[] for _ in texts_of]
    for place, owner in zip(places, owners, strict=True):
        text_at[place] = texts_of[owner][len(turns_of[owner])]
        turns_of[owner].append(place)
    questions: list[StateQuestion] = []
    for (topic, mentions, values), turns in zip(threads, turns_of, strict=False):
        stating_turns = [
            place for place, (_, is_own) in zip(turns, mentions, strict=True) if is_own
        ]
        questions += _questions(topic, mentions, turns, values, stating_turns, words, rng)
    for plan, turns in zip(plans, turns_of[TOPICS_PER_HISTORY:], strict=True):
        text = _fill(words.holds, plan, rng)
        questions.append(StateQuestion(text, "cancelled", (turns[1],), (turns[0],)))
    return StateHistory(
        [_turn(place, text_at.get(place), rng) for place in range(count)], questions
    )


Mentions = list[tuple[str, bool]]
"""Texts about a topic, in order; False for texts about somebody else's value."""


def _mentions(topic: Topic, rng: Random) -> tuple[Topic, Mentions, list[str]]:
    """Return a topic, its mentions, and its values in order."""
    count = 1 if rng.random() < SINGLE else rng.choice((2, 2, 3, 4))
    values = rng.sample(topic.values.split("|"), count)
    stated = [pick(topic.told, rng).format(v=values[0])]
    changed = rng.sample(topic.changed.split("|"), len(values) - 1)
    stated += [text.format(v=value) for text, value in zip(changed, values[1:], strict=True)]
    mentions = [(text[0].upper() + text[1:], True) for text in stated]
    if count > 1 and rng.random() < RECALLED:
        text = pick(topic.recalled, rng).format(v=values[-2])
        mentions.append((text[0].upper() + text[1:], True))
    if rng.random() < 0.5:  # somebody else's value, mentioned at any time
        spare = rng.choice([v for v in topic.values.split("|") if v not in values] or ["another"])
        text = f"{pick(_OTHERS, rng)} said: “{pick(topic.told, rng).format(v=spare)}”"
        mentions.insert(rng.randint(0, len(mentions)), (text, False))
    remarks = topic.remarks.split("|")
    for text in remarks if count == 1 else rng.sample(remarks, 1):
        mentions.insert(rng.randint(1, len(mentions)), (text, False))
    return topic, mentions, values


def _questions(
    topic: Topic,
    mentions: Mentions,
    turns: Sequence[int],
    values: Sequence[str],
    stating_turns: Sequence[int],
    words: Wordings,
    rng: Random,
) -> list[StateQuestion]:
    """Return a question of every kind about a topic."""
    stated, recalled = stating_turns[: len(values)], stating_turns[len(values) :]
    newest, older = stated[-1], [*stated[:-1], *recalled]
    question = pick(topic.asked, rng)
    now = f"{question.rstrip('?')} {rng.choice(words.now)}?"
    if not older:
        others = tuple(turn for turn in turns if turn != newest)
        return [
            StateQuestion(question, "single", (newest,), others),
            StateQuestion(now, "single now", (newest,), others),
        ]
    latest = rng.choice(words.latest).format(noun=topic.noun)
    present = (
        {"recalled": question} if recalled else {"current": question, "now": now, "latest": latest}
    )
    questions = [
        StateQuestion(text, kind, (newest,), tuple(older)) for kind, text in present.items()
    ]

    def past(kind: str, choices: Sequence[str], place: int, value: str = "") -> None:
        text = rng.choice(choices).format(was=topic.was, noun=topic.noun, v=value)
        rivals = [turn for turn in stated if turn != stated[place]]
        questions.append(StateQuestion(text, kind, (stated[place],), tuple(rivals)))

    past("first", words.first, 0)
    past("before", words.before, -2, values[-1])
    past("named", words.named, -2, values[-2])
    times = rng.choice(words.times).format(noun=topic.noun)
    questions.append(StateQuestion(times, "times", tuple(stated), ()))
    return questions


def _turn(place: int, text: str | None, rng: Random) -> Turn:
    """Return the turn at a place; each session spans two days."""
    time = BEGIN + timedelta(hours=9 * place)
    if text is None:
        small_talk = filler(rng)
        return Turn(
            user=small_talk.user,
            assistant=small_talk.assistant,
            time=time,
            session=f"s{place // 6}",
        )
    reply = pick(_REPLIES, rng) if rng.random() < 0.4 else ""
    return Turn(user=text, assistant=reply, time=time, session=f"s{place // 6}")


def _fill(choices: Sequence[str], value: str, rng: Random) -> str:
    text = rng.choice(choices).format(v=value)
    return text[0].upper() + text[1:]


def pick(words: str, rng: Random) -> str:
    """Return one of the wordings that "|" separates."""
    return rng.choice(words.split("|"))
