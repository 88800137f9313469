"""The prompts of the reader and the judge."""

from __future__ import annotations

from benchmarks.datasets.base import Question

VERSION = 1
"""Increase it when a prompt changes: results of other versions are not reused."""

_READ = """\
These are parts of earlier conversations, oldest first, each with its date:

{context}

{today}Question: {question}

Answer from these conversations alone and as briefly as the question allows, without repeating it. \
If they do not hold the answer, say that it was not mentioned."""

_CHOOSE = """\
These are parts of earlier conversations, oldest first, each with its date:

{context}

{today}The user now says: {question}

Which of these replies suits the user best, going by the conversations?

{choices}

Name the letter of that reply, and nothing else."""

_JUDGE = """\
Decide whether an answer to a question is right.

Question: {question}
{right}: {truth}
Given answer: {answer}

{rule} Reply with one word, yes or no."""

_UNANSWERABLE = """\
Decide whether an answer recognises that a question cannot be answered from what is known.

Question: {question}
{why}Given answer: {answer}

It is right if it says that the information is missing or was not mentioned, even if it adds other \
facts; it is wrong if it answers the question. Reply with one word, yes or no."""

_SAME = (
    "It is right if it says the same as the right answer, in whatever words and however much more; "
    "it is wrong if a part of the right answer is missing or contradicted."
)
_RULES = {
    "temporal-reasoning": f"{_SAME} Counts of days, weeks or months may be off by one.",
    "knowledge-update": f"{_SAME} Mentioning an outdated value as well does no harm if the right "
    "answer is given as the present one.",
    "single-session-preference": "It is right if it makes use of what the rubric says about the "
    "person; it need not cover every point.",
}
RUBRIC = "single-session-preference"


def reading(question: Question, context: str) -> str:
    """Return the reader's prompt."""
    today = f"Today is {question.asked}.\n" if question.asked else ""
    shown = context or "(nothing was found)"
    if question.choices:
        choices = "\n".join(question.choices)
        return _CHOOSE.format(context=shown, today=today, question=question.text, choices=choices)
    return _READ.format(context=shown, today=today, question=question.text)


def judging(question: Question, answer: str) -> str:
    """Return the judge's prompt."""
    if question.unanswerable:
        why = f"Why it cannot be answered: {question.answer}\n" if question.answer else ""
        return _UNANSWERABLE.format(question=question.text, why=why, answer=answer)
    return _JUDGE.format(
        question=question.text,
        right="Rubric" if question.type == RUBRIC else "Right answer",
        truth=question.answer,
        answer=answer,
        rule=_RULES.get(question.type, _SAME),
    )
