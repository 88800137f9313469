#!/usr/bin/env bash
# google-adk 2.13.0: `InMemoryMemoryService` returns ten memories without the Hindi word that is searched for, and
# not the one with it.
#
# `search_memory` takes words to be runs of `\w`. Python's `\w` does not match the vowel signs of Indic scripts, so
# "किताब" (book) becomes its three consonants. Each is looked for anywhere in a memory's text, where most sentences
# have them. All memories then match equally, the ten oldest are returned, and the right one is left out. The same
# search in English returns the right memory alone.
#
# Seen on 2026-12-01 with Python 3.11:
#   Hindi: 10 memories, with the word: 0
#   English: 1 memories, with the word: 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check google-adk==2.13.0
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import asyncio

from google.adk.events import Event
from google.adk.memory import InMemoryMemoryService
from google.genai import types

HINDI = [
    "कल तक बारिश होगी।",
    "तुम कब आओगे?",
    "बात बहुत अच्छी थी, कल मिलते हैं।",
    "मैंने बाजार से कपड़ा और तेल लिया।",
    "बच्चे कल तालाब पर थे।",
    "अब तक कोई खबर नहीं आई।",
    "कबूतर छत पर बैठा है।",
    "बस का टिकट कल तक मिलेगा।",
    "तबला कमरे में रखा है।",
    "करीब तीन बजे बैठक है।",
    "बहन ने कल चित्र बनाया।",
]
ENGLISH = ["It will rain tomorrow.", "The meeting is at three."] * 6
USER = {"app_name": "app", "user_id": "user"}


async def search(word: str, others: list[str], right: str) -> tuple[int, int]:
    service = InMemoryMemoryService()
    events = [
        Event(author="user", content=types.Content(role="user", parts=[types.Part(text=text)]))
        for text in [*others, right]
    ]
    await service.add_events_to_memory(**USER, events=events)
    memories = (await service.search_memory(**USER, query=word)).memories
    return len(memories), sum(word in memory.content.parts[0].text for memory in memories)


seen = {
    "Hindi": asyncio.run(search("किताब", HINDI, "मेरी किताब मेज पर है।")),
    "English": asyncio.run(search("book", ENGLISH, "My book is on the table.")),
}
for language, (count, right) in seen.items():
    print(f"{language}: {count} memories, with the word: {right}")
assert seen == {"Hindi": (10, 0), "English": (1, 1)}, "this has changed"
PYTHON
