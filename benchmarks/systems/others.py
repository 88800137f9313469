"""Other memory systems, as installed by the user, behind the interface `System`.

They call the language model of their own configuration for every turn that they read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.systems.base import Hit, Rank, before
from evomem import Turn
from evomem.errors import EvomemError

UNDATED = datetime(2020, 1, 1, tzinfo=timezone.utc)
"""The time of a turn without a time, for systems that require it."""


class AMem:
    """A-MEM (github.com/agiresearch/A-mem): a note for each turn, found by its embedding and links."""

    def __init__(self, options: str) -> None:
        """Read the arguments of `AgenticMemorySystem` from the JSON file `options`, if not empty."""
        module = _installed("agentic_memory.memory_system", "https://github.com/agiresearch/A-mem")
        self._make, self._options = module.AgenticMemorySystem, _read_options(options)
        self.fingerprint = f"a-mem {json.dumps(self._options, sort_keys=True)}"

    def index(self, turns: Sequence[Turn]) -> Rank:
        """See `System.index`."""
        system = self._make(**self._options)
        places: dict[str, int] = {}
        for place, turn in enumerate(turns):
            time = f"{turn.time or UNDATED:%Y%m%d%H%M}"
            places[system.add_note(turn.text, time=time)] = place

        def rank(question: str, k: int, place: int | None = None) -> list[Hit]:
            wanted = len(turns) if place is not None else min(k, len(turns))
            notes = system.search_agentic(question, k=wanted)
            hits = [places[note["id"]] for note in notes if note["id"] in places]
            return before(hits, place)[:k]

        return rank


class LightMem:
    """LightMem (github.com/zjunlp/LightMem): facts that a language model extracts from turns."""

    def __init__(self, options: str) -> None:
        """Read the configuration for `LightMemory.from_config` from the JSON file `options`."""
        module = _installed("lightmem.memory.lightmem", "https://github.com/zjunlp/LightMem")
        if not options:
            raise EvomemError("LightMem needs a configuration: name it as lightmem:FILE.json")
        self._make, self._options = module.LightMemory.from_config, _read_options(options)
        self.fingerprint = f"lightmem {json.dumps(self._options, sort_keys=True)}"

    def index(self, turns: Sequence[Turn]) -> Rank:
        """See `System.index`. Hits are facts, not turns."""
        memory = self._make(self._options)
        messages = [message for turn in turns for message in _messages(turn)]
        memory.add_memory(messages, force_segment=True, force_extract=True)
        return lambda question, k, place=None: list(memory.retrieve(question, limit=k))


def _messages(turn: Turn) -> list[dict[str, Any]]:
    """Return a turn as a pair of messages: LightMem expects the user's at even positions."""
    time = f"{turn.time or UNDATED:%Y/%m/%d (%a) %H:%M}"
    name = {"speaker_name": turn.speaker, "speaker_id": turn.speaker} if turn.speaker else {}
    return [
        {"role": role, "content": text, "time_stamp": time, **name}
        for role, text in (("user", turn.user), ("assistant", turn.assistant))
    ]


def _installed(module: str, source: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise EvomemError(
            f"{module} cannot be imported ({error}): install it from {source}"
        ) from error


def _read_options(path: str) -> dict[str, Any]:
    if not path:
        return {}
    try:
        options = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise EvomemError(f"{path} cannot be read as a JSON file: {error}") from error
    if not isinstance(options, dict):
        raise EvomemError(f"{path} must hold a JSON object, got {type(options).__name__}")
    return options
