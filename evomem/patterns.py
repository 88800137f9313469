"""Regular expressions that are compiled when they are first used, which takes up to a millisecond each."""

from __future__ import annotations

import re
from typing import Any, cast


def lazy(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """Return a pattern like `re.compile`, except that an error in it shows at its first use.

    >>> lazy("m+").findall("hammer")
    ['mm']
    """
    return cast("re.Pattern[str]", _Lazy(pattern, flags))


class _Lazy:
    def __init__(self, pattern: str, flags: int) -> None:
        self._source = pattern, flags

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the compiled pattern, and keep it: Python asks for it only once."""
        value = getattr(re.compile(*self._source), name)  # a repeated `compile` takes a microsecond
        setattr(self, name, value)
        return value
