"""The words of a text in any script."""

from __future__ import annotations

import regex

_CJK = r"\u3005-\u3007\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003134f"
_SOUTHEAST_ASIAN = (
    r"\p{Line_Break=Complex_Context}"  # Unicode's class of scripts that need a dictionary
)
# C++, C# and F# are words; a mark without a letter, as in an emoji, is not a word
_SPACED_WORD = regex.compile(r"[a-z](?:\+\+|#|\w*)|(?!\p{Mark})\w+")
_UNSPACED = regex.compile(rf"[{_CJK}{_SOUTHEAST_ASIAN}]")
_RUN = regex.compile(
    rf"(?P<cjk>[{_CJK}]+)|(?P<southeast_asian>{_SOUTHEAST_ASIAN}+)|[^{_CJK}{_SOUTHEAST_ASIAN}]+"
)


def words_of(folded: str) -> list[str]:
    """Return the words of a folded text, and in scripts without spaces pairs of adjacent characters.

    A sequence of Han, kana or Hangul also yields its characters.
    """
    words: list[str] = []
    if not _UNSPACED.search(folded):
        words += _SPACED_WORD.findall(folded)
        return words
    for match in _RUN.finditer(folded):
        run = match[0]
        if match.lastgroup is None:
            words += _SPACED_WORD.findall(run)
            continue
        if match.lastgroup == "cjk" or len(run) == 1:
            words += run
        words += [run[at : at + 2] for at in range(len(run) - 1)]
    return words
