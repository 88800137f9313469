"""Run LightMem on our parts: `python lightmem_host.py pair|embedder FOLDER`, LightMem importable.

Its LLM is replaced by one that takes every user message as a fact, so that no network is needed.
"""

import sys
from types import ModuleType
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


class Manager:
    """LightMem's memory manager, without an LLM behind it."""

    def __init__(self, config):
        self.config = config
        words = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_object=words)  # else it downloads one

    def meta_text_extract(self, extract_list, **options):
        results = []
        for batch in extract_list:
            texts = [
                message for segment in batch for message in segment if message["role"] == "user"
            ]
            facts = [{"source_id": i, "fact": item["content"]} for i, item in enumerate(texts)]
            results.append(
                {"input_prompt": [], "output_prompt": "", "cleaned_result": [facts], "usage": USAGE}
            )
        return results

    def _call_update_llm(self, prompt, entry, candidates):
        return {
            "action": "update",
            "new_memory": "Merged: " + entry["payload"]["memory"],
            "usage": USAGE,
        }

    def generate_response(self, messages, **options):
        return "A summary of moving to Oslo.", USAGE


def configuration(folder):
    """Return a configuration as LightMem's README has it, without compression."""
    store = {"embedding_model_dims": 256, "path": folder}
    return {
        "pre_compress": False,
        "topic_segment": False,
        "messages_use": "user_only",
        "metadata_generate": True,
        "text_summary": True,
        "memory_manager": {
            "model_name": "openai",
            "configs": {"model": "gpt-4o-mini", "api_key": "x"},
        },
        "index_strategy": "embedding",
        "text_embedder": {
            "model_name": "huggingface",
            "configs": {
                "model": "/models/all-MiniLM-L6-v2",
                "embedding_dims": 256,
                "model_kwargs": {"device": "cuda"},
            },
        },
        "retrieve_strategy": "embedding",
        "embedding_retriever": {
            "model_name": "qdrant",
            "configs": {"collection_name": "facts", "on_disk": True, **store},
        },
        "summary_retriever": {
            "model_name": "qdrant",
            "configs": {"collection_name": "summaries", **store, "path": folder + "_summaries"},
        },
        "update": "offline",
    }


TALK = (
    ("2023/05/20 (Sat) 00:44", "I adopted a cat called Miso."),
    ("2023/05/21 (Sun) 10:00", "I moved to Oslo."),
    ("2023/05/22 (Mon) 10:00", "I adopted a cat called Miso!"),
)


def main(part, folder):
    """Write, ask, queue, merge, summarise and open again."""
    import evomem_integrations.lightmem

    evomem_integrations.lightmem.install("hash", retriever=part == "pair")  # the one line

    from lightmem.factory.memory_manager.factory import MemoryManagerFactory
    from lightmem.memory.lightmem import LightMemory

    managers: Any = ModuleType("managers")
    managers.Manager = Manager
    sys.modules["managers"] = managers
    MemoryManagerFactory._MODEL_MAPPING["openai"] = "managers.Manager"

    light = LightMemory.from_config(configuration(folder))
    assert light.retrieve("anything") == []
    for stamp, text in TALK:
        messages = [
            {"role": "user", "content": text, "time_stamp": stamp},
            {"role": "assistant", "content": "Noted.", "time_stamp": stamp},
        ]
        result = light.add_memory(messages, force_segment=True, force_extract=True)
        assert result["api_call_nums"] == 1
    assert light.retrieve("moved to Oslo", limit=1) == [
        "2023-05-21T10:00:00.000 Sun I moved to Oslo."
    ]
    entries = light.embedding_retriever.get_all()
    first = min(entry["payload"]["float_time_stamp"] for entry in entries)
    early = light.retrieve("cat", filters={"float_time_stamp": {"lte": first}})
    assert len(early) == 1, early

    light.construct_update_queue_all_entries()
    queues = [
        len(entry["payload"]["update_queue"]) for entry in light.embedding_retriever.get_all()
    ]
    assert sorted(queues) == [0, 1, 2], queues
    light.offline_update_all_entries(score_threshold=0.9)
    merged = [line for line in light.retrieve("a cat called Miso") if "Merged: " in line]
    assert len(merged) == 1, merged
    assert "05-20" in merged[0], merged

    scope = "historical" if part == "pair" else "global"  # which their own store cannot do
    summary = light.summarize(process_all=True, retrieval_scope=scope, time_window=60)
    assert summary["total_entries"] == 3, summary
    assert len(light.summary_retriever.get_all()) == 3
    assert light.get_token_statistics()["summary"]["total_embedding_calls"] > 0

    if part == "pair":
        light.embedding_retriever.close()
        again = LightMemory.from_config(configuration(folder))
        assert len(again.retrieve("cat")) == 3


if __name__ == "__main__":
    main(*sys.argv[1:])
