"""Names of memories in addresses and options: labels joined by slashes, as in `acme/alice`.

A slash or a percent sign inside a label is written `%2F` or `%25`; in an address, the whole name is
percent-encoded once more, as every part of a path is.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote, unquote

from evomem.errors import NamespaceError
from evomem.store import Namespace

WORDS = frozenset(
    ("turns", "search", "context", "fork", "expire", "reread", "import", "export", "inspect")
)
"""Path segments that may follow a memory's name."""


def join_name(labels: Sequence[str]) -> str:
    """Return the name of a namespace.

    >>> join_name(("acme", "a/b")), join_name(("..",))
    ('acme/a%2Fb', '%2E%2E')
    """
    return "/".join(map(_escaped, labels))


def split_name(name: str) -> Namespace:
    """Return the namespace of a name; the empty name is the root of all.

    Raises:
        NamespaceError: A label is not text.
    """
    try:
        return tuple(unquote(label, errors="strict") for label in name.split("/")) if name else ()
    except UnicodeDecodeError as error:
        raise NamespaceError(
            f"the name {name[:200]!r} is not UTF-8: percent-encode each label as UTF-8"
        ) from error


def to_path(text: str) -> str:
    """Return a name or an id as one part of a path."""
    encoded = quote(text, safe="")
    return encoded.replace(".", "%2E") if set(encoded) == {"."} else encoded


def from_path(part: str) -> str:
    """Return the text of a part of a path. Raises `NamespaceError` if it is not UTF-8."""
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError as error:
        raise NamespaceError(f"{part[:200]!r} in the path is not percent-encoded UTF-8") from error


def namespace_in_path(part: str) -> Namespace:
    """Return the namespace that a path names, with its slashes as they are or as `%2F`.

    Raises:
        NamespaceError: The name is not text, or could be taken for another path.
    """
    if clash := sorted(WORDS.intersection(part.split("/")[1:])):
        raise NamespaceError(
            f"{clash[0]!r} in the path may be a label or a part of the address: write the "
            "slashes of the memory's name as %2F"
        )
    return split_name(from_path(part))


def _escaped(label: str) -> str:
    if label in (".", ".."):  # clients take these for steps in a path
        return label.replace(".", "%2E")
    return label.replace("%", "%25").replace("/", "%2F")
