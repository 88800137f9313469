"""The values of a `config.json`, checked when they are read.

Every method raises `CheckpointError` that names the file, the key, and the expected and actual values.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomem.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object, and its location for error messages."""

    values: dict[str, Any]
    where: str

    @classmethod
    def read(cls, folder: Path) -> Fields:
        """Read `config.json` in `folder`."""
        path = folder / "config.json"
        try:
            values = json.loads(path.read_text("utf-8"))
        except FileNotFoundError as error:
            raise CheckpointError(
                f"{path} does not exist; give the folder that holds it"
            ) from error
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
        if not isinstance(values, dict):
            raise CheckpointError(f"{path} holds a {type(values).__name__}, expected an object")
        return cls(values, str(path))

    def inner(self, name: str) -> Fields:
        """Return the object under `name`."""
        values = self.values[name]
        if not isinstance(values, dict):
            raise self.error(name, "an object", "download the file again")
        return Fields(values, f"{self.where}, {name}")

    def count(self, name: str, default: int | None = None) -> int:
        """Return a whole number of at least 1."""
        value = self.values.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.error(name, "a whole number of at least 1", "take it from the model's page")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """Return a number above 0."""
        value = self.values.get(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e12:
            raise self.error(name, "a number above 0", "take it from the model's page")
        return float(value)

    def refuse_unless(self, name: str, allowed: tuple[object, ...]) -> None:
        """Raise an error unless `name` is absent or its value is one of `allowed`."""
        value = self.values.get(name)
        if value is not None and value not in allowed:
            raise self.error(
                name, " or ".join(map(repr, allowed)), "this variant is not implemented here"
            )

    def error(self, name: str, expected: str, remedy: str) -> CheckpointError:
        """Return an error with the expected and actual values of `name`, and the remedy."""
        value = repr(self.values[name]) if name in self.values else "nothing"
        return CheckpointError(f"{self.where}: {name} must be {expected}, got {value}; {remedy}")
