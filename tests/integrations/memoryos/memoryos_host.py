"""Run MemoryOS on our embeddings: `python memoryos_host.py FOLDER`, in a folder of its modules.

Its LLM is replaced by one that says the same to everything, so that no network is needed.
"""

import json
import sys
from importlib import import_module

from evomem_integrations.memoryos import install

TALK = (
    ("I adopted a cat called Miso.", "Lovely!"),
    ("I moved to Oslo.", "How is it?"),
    ("I play chess on Sundays.", "With whom?"),
    ("Miso likes fish.", "Good to know."),
)


def answer(self, model, messages, **options):
    """Answer as the LLM would that is asked for topics, among other things."""
    return json.dumps(
        [{"theme": "life", "keywords": ["life"], "content": "The user's cat and home"}]
    )


def main(folder):
    """Talk, ask, and open again."""
    mid_term, long_term, memoryos, utils = map(
        import_module, ("mid_term", "long_term", "memoryos", "utils")
    )
    install(mid_term, long_term, encoder="hash")  # the one line
    utils.OpenAIClient.chat_completion = answer

    def opened():
        return memoryos.Memoryos(
            "alice", "no-key", folder, short_term_capacity=2, mid_term_heat_threshold=99
        )

    memory = opened()
    for text, reply in TALK:
        memory.add_memory(text, reply)
    hits = memory.retriever.retrieve_context("a cat called Miso", "alice")
    pages = [page["user_input"] for page in hits["retrieved_pages"]]
    assert pages[:1] == [TALK[0][0]], pages
    assert len(hits["retrieved_pages"][0]["page_embedding"]) == 256
    memory.user_long_term_memory.add_user_knowledge("Likes fish")
    again = opened().retriever.retrieve_context("Who likes fish?", "alice")
    assert again["retrieved_user_knowledge"][0]["knowledge"] == "Likes fish", again
    assert not utils._model_cache, "their own model was loaded"


if __name__ == "__main__":
    main(sys.argv[1])
