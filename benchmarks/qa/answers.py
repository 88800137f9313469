"""Text-based scores of answers, and the parsing of verdicts."""

from __future__ import annotations

import re
import string
from collections import Counter

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans(string.punctuation, " " * len(string.punctuation))


def words(text: str) -> list[str]:
    """Return the words of an answer as SQuAD compares them: without case, punctuation and articles.

    >>> words("The cat's name, it is Miso.")
    ['cat', 's', 'name', 'it', 'is', 'miso']
    """
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def exact(answer: str, truth: str) -> float:
    """Return 1 if both have the same words in the same order."""
    return float(words(answer) == words(truth))


def f1(answer: str, truth: str) -> float:
    """Return the harmonic mean of the precision and recall of words.

    >>> f1("She moved to Oslo", "Oslo")
    0.4
    """
    answer_words, truth_words = words(answer), words(truth)
    shared = sum((Counter(answer_words) & Counter(truth_words)).values())
    if not shared:
        return float(answer_words == truth_words)
    return 2 * shared / (len(answer_words) + len(truth_words))


def verdict(reply: str) -> bool | None:
    """Return whether a judge's reply is yes; None if it contains neither yes nor no, or both.

    >>> verdict("Yes."), verdict("The answer is **no**"), verdict("Let me think")
    (True, False, None)
    """
    verdicts = {word.lower() for word in re.findall(r"\b(?:yes|no)\b", reply, re.IGNORECASE)}
    return verdicts.pop() == "yes" if len(verdicts) == 1 else None
