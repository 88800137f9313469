"""Optional packages: imported where they are used, through one function."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from evomem.errors import MissingExtra


def require(module: str, *, extra: str) -> Any:
    """Import `module`, or raise `MissingExtra` naming the extra that installs it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise  # the module exists, but one of its own imports does not
        raise MissingExtra(module, extra) from error
