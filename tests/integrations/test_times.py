"""Every adapter counts days in the user's time zone, and from the moment that it is told."""

import pytest

import evomem
from evomem.records import Turn, as_utc

ZONE = "America/Los_Angeles"
MEALS = (("sushi", "2026-03-09T20:00:00-07:00"), ("ramen", "2026-03-10T20:00:00-07:00"))
QUERY = "What did we talk about on 10 March 2026?"
YESTERDAY = "What did we talk about yesterday?"
NOW = "2026-03-12T02:00:00+00:00"  # 11 March in Los Angeles


@pytest.fixture
def db(tmp_path):
    with evomem.open(str(tmp_path / "agent.db"), encoder="hash") as opened:
        yield opened


def fill(memory):
    memory.add_many(
        [Turn(user=f"I had {dish}.", time=as_utc(time), id=dish) for dish, time in MEALS]
    )
    return memory


def test_langchain_retriever(db):
    pytest.importorskip("langchain_core")
    from evomem_integrations.langchain import EvoMemRetriever

    retriever = EvoMemRetriever(memory=fill(db.memory("a")), zone=ZONE)
    assert [document.id for document in retriever.invoke(QUERY)] == ["ramen"]
    assert [document.id for document in retriever.invoke(QUERY, zone="UTC")] == ["sushi"]
    assert [document.id for document in retriever.invoke(YESTERDAY, now=NOW)] == ["ramen"]


def test_langgraph_store(db):
    pytest.importorskip("langgraph")
    from evomem_integrations.langgraph import EvoMemStore

    for zone, dish in ((ZONE, "ramen"), (None, "sushi")):
        store = EvoMemStore(db, root=(str(zone),), zone=zone)
        memory = store._memory(("meals",))
        memory.add_many(
            [
                Turn(user=f"I had {name}.", session=name, time=as_utc(time), metadata={"value": {"dish": name}})
                for name, time in MEALS
            ]
        )  # fmt: skip
        assert memory.search(QUERY, mode="evolvable")[0].record.turn.session == dish
        store.close()


async def test_llamaindex_block(tmp_path):
    pytest.importorskip("llama_index.core")
    from llama_index.core.base.llms.types import ChatMessage

    from evomem_integrations.llamaindex import EvoMemBlock

    block = EvoMemBlock(
        location=str(tmp_path / "block.db"), namespace=("a",), encoder="hash", zone=ZONE
    )
    fill(block.memory)
    block.memory.add("I had soup.", time="2026-03-01T12:00:00Z", id="soup")
    [line] = (await block.aget([ChatMessage(QUERY)])).splitlines()
    assert line == "[2026-03-10 20:00 PDT, id ramen] User: I had ramen."
    lines = (await block.aget([ChatMessage("I had")])).splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == ["soup.", "sushi.", "ramen."]
    copy = EvoMemBlock.model_validate(block.model_dump())
    assert copy.zone == ZONE


def test_mem0(db):
    from evomem_integrations.mem0 import Memory

    memory = Memory(database=db)
    for dish, time in MEALS:
        memory.add(f"I had {dish}.", user_id="alice", timestamp=time)

    def search(query, **asked):
        return [row["memory"] for row in memory.search(query, user_id="alice", threshold=0, **asked)["results"]]  # fmt: skip

    assert search(QUERY, zone=ZONE) == ["I had ramen."]
    assert search(QUERY) == ["I had sushi."]
    assert search(YESTERDAY, zone=ZONE, now=NOW) == ["I had ramen."]


def test_amem():
    from evomem_integrations.amem import AgenticMemorySystem

    system = AgenticMemorySystem(encoder="hash", zone=ZONE)
    system.add_note("I had sushi.", time="202603092000")
    system.add_note("I had ramen.", time="202603102000")
    assert [note["content"] for note in system.search(QUERY)] == ["I had ramen."]
    assert [note["content"] for note in system.search(YESTERDAY, now=NOW)] == ["I had ramen."]
    system.close()


def test_lightmem():
    from evomem_integrations.lightmem import LightMemory

    for zone, dish in ((ZONE, "ramen"), (None, "sushi")):
        memory = LightMemory(encoder="hash", zone=zone)
        memory.add_memory(
            [
                {"role": "user", "content": f"I had {name}.", "time_stamp": time}
                for name, time in MEALS
            ]
        )
        [line] = memory.retrieve(QUERY)
        assert line.endswith(f"I had {dish}.")
        memory.close()
    memory = LightMemory(encoder="hash", zone=ZONE)
    memory.add_memory([{"role": "user", "content": "I had pho.", "time_stamp": MEALS[1][1]}])
    memory.add_memory([{"role": "user", "content": "I had soup.", "time_stamp": MEALS[0][1]}])
    assert memory.retrieve(YESTERDAY, now=NOW)[0].endswith("I had pho.")
    memory.close()
