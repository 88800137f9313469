"""Other systems, as they would be installed: stand-ins with their documented signatures."""

import json
import sys
from datetime import datetime, timezone

import pytest

from benchmarks.systems.encoders import Encoders
from benchmarks.systems.naming import system_named
from evomem import Turn
from evomem.errors import EvomemError

A_MEM = """
class AgenticMemorySystem:
    def __init__(self, model_name="all-MiniLM-L6-v2", llm_backend="openai"):
        self.model_name, self.notes = model_name, {}

    def add_note(self, content, time=None):
        assert time.isdecimal() and len(time) == 12
        self.notes[f"note {len(self.notes)}"] = content
        return f"note {len(self.notes) - 1}"

    def search_agentic(self, query, k=5):
        words = set(query.lower().strip("?").split())
        def shared(id):
            return len(words & set(self.notes[id].lower().strip(".").split()))
        found = sorted(self.notes, key=shared, reverse=True)[:k]
        return [{"id": id, "content": self.notes[id], "is_neighbor": False} for id in found]
"""
LIGHT_MEM = """
from datetime import datetime

class LightMemory:
    @classmethod
    def from_config(cls, config):
        assert config["update"] == "offline"
        memory = cls()
        memory.facts = []
        return memory

    def add_memory(self, messages, METADATA_GENERATE_PROMPT=None, *, force_segment=False, force_extract=False):
        assert force_segment and force_extract
        assert [message["role"] for message in messages[::2]] == ["user"] * (len(messages) // 2)
        for message in messages:
            datetime.strptime(message["time_stamp"], "%Y/%m/%d (%a) %H:%M")
        self.facts += [f"{m['time_stamp']} fact: {m['content']}" for m in messages if m["content"]]

    def retrieve(self, query, limit=10):
        return self.facts[-limit:]
"""
TURNS = [
    Turn(user="I adopted a cat.", speaker="Ann", time=datetime(2024, 3, 15, tzinfo=timezone.utc)),
    Turn(assistant="Lovely."),
    Turn(user="I moved to Oslo."),
]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Put both packages on the path, and take them off again."""
    for module, source in (
        ("agentic_memory.memory_system", A_MEM),
        ("lightmem.memory.lightmem", LIGHT_MEM),
    ):
        path = tmp_path.joinpath(*module.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True)
        path.write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith(("agentic_memory", "lightmem"))]:
        del sys.modules[name]


def test_a_mems_notes_are_turns(installed):
    system = system_named("amem", Encoders())
    assert list(system.index(TURNS)("Where is Oslo?", 1)) == [2]
    assert list(system.index(TURNS[:2])("who adopted a cat?", 5))[0] == 0


def test_options_come_from_a_file_and_decide_the_results(installed):
    path = installed / "amem.json"
    path.write_text(json.dumps({"model_name": "other"}))
    system = system_named(f"amem:{path}", Encoders())
    assert "other" in system.fingerprint
    assert system.fingerprint != system_named("amem", Encoders()).fingerprint


def test_lightmem_returns_facts(installed):
    path = installed / "light.json"
    path.write_text(json.dumps({"update": "offline"}))
    system = system_named(f"lightmem:{path}", Encoders())
    facts = list(system.index(TURNS)("What?", 2))
    assert facts == [
        "2020/01/01 (Wed) 00:00 fact: Lovely.",
        "2020/01/01 (Wed) 00:00 fact: I moved to Oslo.",
    ]


def test_missing_configurations_of_systems_are_reported(installed, tmp_path):
    with pytest.raises(EvomemError, match="LightMem needs a configuration"):
        system_named("lightmem:", Encoders())
    with pytest.raises(EvomemError, match="cannot be read as a JSON file"):
        system_named("amem:/nowhere.json", Encoders())


def test_a_missing_package_is_named_with_its_source():
    with pytest.raises(EvomemError, match=r"install it from https://github.com/agiresearch/A-mem"):
        system_named("amem", Encoders())
