"""Paths of the memory tool, which are `/memories` or below it."""

from __future__ import annotations

import posixpath
from urllib.parse import unquote

from anthropic.lib.tools import ToolError

from evomem.adapter import clean
from evomem.records import MAX_LABEL

ROOT = "/memories"


def normal(path: str) -> str:
    """Return a path without `.`, `..` and redundant slashes.

    Raises:
        ToolError: The path, or the path decoded as a URL, is not below `/memories`, or the log cannot
            hold it.
    """
    if not _inside(path):
        raise ToolError(f"Path must start with {ROOT}, got: {path}")
    for spelling in (path, unquote(path).replace("\\", "/")):
        if not _inside(posixpath.normpath(spelling)):
            raise ToolError(f"Path {path} would escape {ROOT} directory")
    result = posixpath.normpath(path)
    if clean(result, MAX_LABEL).changes:
        raise ToolError(
            f"Path must be text of at most {MAX_LABEL} characters without NUL: {path!r}"
        )
    return result


def parents(path: str) -> list[str]:
    """Return the parent directories of a path, without the root."""
    names = path.removeprefix(f"{ROOT}/").split("/")[:-1]
    return [posixpath.join(ROOT, *names[:count]) for count in range(1, len(names) + 1)]


def tree(path: str, sizes: dict[str, int]) -> list[tuple[int, str]]:
    """Return the listing of a directory, two levels deep, without hidden names.

    Args:
        path: The directory.
        sizes: The size of every file in bytes, by path.

    Returns:
        The size and path of the directory and of each entry.
    """
    shown: dict[str, int] = {}
    total = 0
    for file, size in sizes.items():
        names = [] if not file.startswith(f"{path}/") else file[len(path) + 1 :].split("/")
        total += size if names else 0
        for depth in range(1, min(len(names), 2) + 1):
            if any(name.startswith(".") for name in names[:depth]):
                break
            entry = "/".join(names[:depth]) + ("/" if depth < len(names) else "")
            shown[entry] = shown.get(entry, 0) + size
    entries = sorted(shown.items(), key=lambda item: item[0].rstrip("/").split("/"))
    return [(total, path), *((size, f"{path}/{entry}") for entry, size in entries)]


def _inside(path: str) -> bool:
    return path == ROOT or path.startswith(f"{ROOT}/")
