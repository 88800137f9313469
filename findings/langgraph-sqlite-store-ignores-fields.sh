#!/usr/bin/env bash
# langgraph-checkpoint-sqlite 3.1.2: `SqliteStore` ignores `fields` of the index it is given.
#
# LangGraph's `IndexConfig` names the fields of an item that are embedded: `"fields": ["text"]`, as the
# docstring of `SqliteStore` shows too. `InMemoryStore` embeds these fields. `SqliteStore` reads another
# key, "text_fields", and so embeds the whole item as JSON: keys, ids and flags become part of what a
# search compares, without an error.
#
# Seen on 2026-11-29 with Python 3.11:
#   InMemoryStore embeds: ['green tea']
#   SqliteStore embeds: ['{"owner": "u-4711", "text": "green tea"}']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    langgraph-checkpoint-sqlite==3.1.2 langgraph-checkpoint==4.3.2 pysqlite3-binary==0.5.4.post2
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sqlite3

import langgraph.store.sqlite.base as base
from langgraph.store.memory import InMemoryStore

if not hasattr(sqlite3.Connection, "enable_load_extension"):  # Pythons without extensions
    import pysqlite3

    base.sqlite3 = pysqlite3

embedded = []


def embed(texts):
    embedded.extend(texts)
    return [[1.0, 0.0] for _ in texts]


index = {"dims": 2, "embed": embed, "fields": ["text"]}
item = {"text": "green tea", "owner": "u-4711"}
InMemoryStore(index=dict(index)).put(("notes",), "a", item)
in_memory = embedded.copy()
embedded.clear()
with base.SqliteStore.from_conn_string(":memory:", index=dict(index)) as store:
    store.setup()
    store.put(("notes",), "a", item)
print(f"InMemoryStore embeds: {in_memory}")
print(f"SqliteStore embeds: {embedded}")
assert in_memory == ["green tea"], "this has changed"
assert embedded == ['{"owner": "u-4711", "text": "green tea"}'], "this has changed"
PYTHON
