#!/usr/bin/env bash
# pymilvus 3.0.2 with milvus-lite 3.2.2: `create_index` of an empty collection takes half a second for nothing.
#
# By default `create_index` waits until the index is built: it sleeps for 0.5 s, and only then asks for the
# state for the first time. In an empty collection there is nothing to build. With `sync=False` the call
# returns at once, and the index is already finished. A program that creates a collection for each user or
# test waits half a second for each.
#
# Seen on 2026-12-01 with Python 3.11, Linux x86-64:
#   sync=True: 0.5 s or more: True, state: Finished
#   sync=False: 0.5 s or more: False, state: Finished
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pymilvus==3.0.2 milvus-lite==3.2.2
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import time

from pymilvus import DataType, MilvusClient

client = MilvusClient("vectors.db")
slow, states = {}, {}
for sync in (True, False):
    name = f"collection_{sync}".lower()
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=8)
    client.create_collection(name, schema=schema)
    parameters = client.prepare_index_params()
    parameters.add_index("vector", index_type="FLAT", metric_type="IP")
    start = time.perf_counter()
    client.create_index(name, parameters, sync=sync)
    slow[sync] = time.perf_counter() - start >= 0.5
    states[sync] = client.describe_index(name, "vector")["state"]
    print(f"sync={sync}: 0.5 s or more: {slow[sync]}, state: {states[sync]}")
client.close()

assert slow == {True: True, False: False}, "create_index waits differently now"
assert set(states.values()) == {"Finished"}, "the state of a new index is another one now"
PYTHON
