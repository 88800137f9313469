"""Other memory systems, as installed by the user, with our interface.

They call a language model for every turn that they read, as their own configuration says.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.systems.base import Hit, Rank
from evomem import Turn
from evomem.errors import EvomemError

UNDATED = datetime(2020, 1, 1, tzinfo=timezone.utc)
"""The time of a turn that has none, for systems that insist on one."""


class AMem:
    """A-MEM (github.com/agiresearch/A-mem): a note for each turn, found by its embedding and links."""

    def __init__(self, options: str) -> None:
        """`options`: a JSON file with arguments of `AgenticMemorySystem`; its defaults if empty."""
        module = _installed("agentic_memory.memory_system", "https://github.com/agiresearch/A-mem")
        self._make, self._options = module.AgenticMemorySystem, _read(options)
        self.fingerprint = f"a-mem {json.dumps(self._options, sort_keys=True)}"

    def index(self, turns: Sequence[Turn]) -> Rank:
        """See `System.index`."""
        system = self._make(**self._options)
        places: dict[str, int] = {}
        for place, turn in enumerate(turns):
            time = f"{turn.time or UNDATED:%Y%m%d%H%M}"
            places[system.add_note(turn.text, time=time)] = place

        def rank(question: str, k: int) -> list[Hit]:
            notes = system.search_agentic(question, k=min(k, len(turns)))
            return [places[note["id"]] for note in notes if note["id"] in places]

        return rank


class LightMem:
    """LightMem (github.com/zjunlp/LightMem): facts that a language model extracts from turns."""

    def __init__(self, options: str) -> None:
        """`options`: a JSON file that `LightMemory.from_config` takes; it is needed."""
        module = _installed("lightmem.memory.lightmem", "https://github.com/zjunlp/LightMem")
        if not options:
            raise EvomemError("LightMem needs a configuration: lightmem:FILE.json")
        self._make, self._options = module.LightMemory.from_config, _read(options)
        self.fingerprint = f"lightmem {json.dumps(self._options, sort_keys=True)}"

    def index(self, turns: Sequence[Turn]) -> Rank:
        """See `System.index`. Hits are facts, not turns."""
        memory = self._make(self._options)
        messages = [message for turn in turns for message in _messages(turn)]
        memory.add_memory(messages, force_segment=True, force_extract=True)
        return lambda question, k: list(memory.retrieve(question, limit=k))


def _messages(turn: Turn) -> list[dict[str, Any]]:
    """Return a turn as a pair of messages: LightMem expects users at even places."""
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


def _read(path: str) -> dict[str, Any]:
    if not path:
        return {}
    try:
        options = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise EvomemError(f"{path} is no JSON file: {error}") from error
    if not isinstance(options, dict):
        raise EvomemError(f"{path} holds no JSON object")
    return options
