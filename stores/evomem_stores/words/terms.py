"""The analyser: turns a text in any script into the terms of the word index.

Words are sequences of letters and digits with their combining marks, as defined by Unicode. Scripts
without spaces between words (Han, kana, Hangul; Thai, Lao, Khmer, Burmese and related scripts) are
indexed by pairs of adjacent characters.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from unicodedata import normalize

import Stemmer

from evomem._forking import reset_in_child

MAX_TERM = 64  # characters; longer ones (encoded files, mostly) are cut, in texts and queries alike
STOPWORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then "
    "there these they this to was will with".split()
)
FUNCTION_WORDS = frozenset(
    "what when where who whom whose which why how do does did doing done have has had having am were "
    "been being can could would should shall might must you your yours he him his she her hers its "
    "them about from so just any some please".split()
)
"""English words that form a question and seldom say what it is about. They are indexed, but a query leaves
them out if it has other words (measurements: docs/measurements/words.md). "I", "my" and "we" count: they
distinguish what a user said from an assistant's replies."""
_CONTRACTED = frozenset(
    "s t d m re ve ll don didn doesn isn aren wasn weren hasn haven hadn couldn wouldn shouldn".split()
)
"""The parts of contractions such as "who's", which say as little as function words if nothing else is asked."""
UNACCENTED = 0.5
"""The weight of a word without its accents in a query (measurements: docs/measurements/words.md)."""
PREFIX = "~"  # marks the accent-free term of an accented word; no other term begins with it

ANALYSER = f"2 snowball-english {Stemmer.version()}"
"""The analyser's version: an index of another version is rebuilt."""

_ASCII_WORD = re.compile(r"[a-z](?:\+\+|#|\w*)|\w+")  # C++, C# and F# are words

# Not part of a word's spelling: the vowel points of Arabic and Hebrew, the Arabic tatweel, the dot that
# case folding leaves on a Turkish i, and characters that are not displayed (Unicode's
# Default_Ignorable_Code_Point, but for the zero-width space, which divides words).
_DROPPED = re.compile(
    r"[\u0610-\u061a\u0640\u064b-\u0652\u0656-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed"
    r"\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200c-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
    r"|(?<=i)\u0307"
)
# What people omit when they type: accents of Latin, Greek and Cyrillic (й without its breve is
# another letter), Arabic hamza and madda, Devanagari nukta.
_ACCENT = re.compile(r"(?<!и)[\u0300-\u036f]|[\u0653-\u0655\u093c]")
_ACCENTABLE = re.compile(r"[\u00c0-\u06d3\u0929\u0931\u0934\u093c\u1e00-\u1fff]")
_PLAIN_LETTERS = str.maketrans(
    {"đ": "d", "ð": "d", "ħ": "h", "ł": "l", "ø": "o", "œ": "oe", "æ": "ae", "þ": "th"}
)

_stemmer = Stemmer.Stemmer("english")
_stemming = threading.Lock()  # a stemmer has internal state


def _after_fork() -> None:
    global _stemmer, _stemming
    _stemmer, _stemming = Stemmer.Stemmer("english"), threading.Lock()


reset_in_child(_after_fork)


def terms(text: str) -> list[str]:
    """Return the terms under which a text is indexed, in order and with repetitions.

    Folds compatibility forms and case, drops Arabic and Hebrew vowel points, removes English stop
    words (unless the text has no other words), and stems English words. A sequence of Han, kana or
    Hangul yields its characters and the pairs of adjacent characters; of Thai, Lao, Khmer or Burmese,
    only the pairs. Accented words are added again, without accents.

    >>> terms("The cats WERE sleeping in Paris")
    ['cat', 'were', 'sleep', 'pari']
    >>> terms("to be")
    ['to', 'be']
    >>> terms("東京都")
    ['東', '京', '都', '東京', '京都']
    >>> terms("แมว")
    ['แม', 'มว']
    >>> terms("hôtel à Besançon")
    ['hôtel', 'à', 'besançon', '~hotel', '~a', '~besancon']
    """
    words = _words(text)
    plain = _without_accents(words)
    stems = _stems(words)
    if plain is not words:
        accented = [bare for word, bare in zip(words, plain, strict=True) if bare != word]
        stems += [PREFIX + stem for stem in _stems(accented)]
    return stems


def query_terms(query: str) -> dict[str, float]:
    """Return the terms of a query, and the weight of each.

    Every occurrence of a word weighs 1; a match that differs in accents weighs `UNACCENTED`.
    `FUNCTION_WORDS` are left out unless the query has no other words.

    >>> query_terms("hotel")
    {'hotel': 1.0, '~hotel': 0.5}
    >>> query_terms("hôtel")
    {'hôtel': 1.0, 'hotel': 0.5, '~hotel': 0.5}
    >>> query_terms("Where did you see the hotel?")
    {'see': 1.0, '~see': 0.5, 'hotel': 1.0, '~hotel': 0.5}
    """
    words = _words(query)
    telling = [word for word in words if word not in FUNCTION_WORDS]
    if not _CONTRACTED.issuperset(telling):
        words = telling
    plain = _without_accents(words)
    weights: defaultdict[str, float] = defaultdict(float)
    for word, bare, stem, bare_stem in zip(words, plain, _stems(words), _stems(plain), strict=True):
        weights[stem] += 1
        if bare != word:
            weights[bare_stem] += UNACCENTED
        weights[PREFIX + bare_stem] += UNACCENTED
    return dict(weights)


def _words(text: str) -> list[str]:
    """Return the folded words of a text without stop words; character pairs in unspaced scripts."""
    if text.isascii():
        words = _ASCII_WORD.findall(text.lower())
    else:
        from evomem_stores.words.scripts import words_of  # takes 10 ms to import

        folded = normalize("NFKC", normalize("NFKC", text).casefold())
        words = words_of(normalize("NFC", _DROPPED.sub("", folded).replace("ı", "i")))
    words = [word[:MAX_TERM] for word in words]
    return [word for word in words if word not in STOPWORDS] or words


def _without_accents(words: list[str]) -> list[str]:
    """Return the words without accents; the same list object if there are no accents."""
    joined = " ".join(words)
    if not _ACCENTABLE.search(joined):
        return words
    bare = _ACCENT.sub("", normalize("NFD", joined)).translate(_PLAIN_LETTERS)
    return normalize("NFC", bare).split(" ")


def _stems(words: list[str]) -> list[str]:
    with _stemming:
        stems: list[str] = _stemmer.stemWords(words)
    return stems
