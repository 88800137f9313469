#!/usr/bin/env bash
# usearch 2.26.6: an index with metric "ip" and dtype "i8" ignores the length of the vectors.
#
# Inner products of float vectors grow with their length: a long vector that points roughly the query's way
# beats a short one that points exactly its way. With `dtype="f32"` and `"f16"` usearch ranks them so. With
# `dtype="i8"` every vector is scaled to the same length before it is rounded, so that the same calls rank
# by cosine. The distances that come back are products of the rounded vectors, in the thousands.
#
# Seen on 2026-11-30 with Python 3.11, Linux x86-64 (keys, nearest first):
#   f32: ['long', 'exact', 'other']
#   f16: ['long', 'exact', 'other']
#   i8: ['exact', 'long', 'other']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check usearch==2.26.6 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from usearch.index import Index

names = ["exact", "long", "other"]
query = np.zeros(16, dtype=np.float32)
query[0] = 1
vectors = np.zeros((3, 16), dtype=np.float32)
vectors[0, 0] = 1  # inner product 1, cosine 1
vectors[1, :2] = 3  # inner product 3, cosine 0.71
vectors[2, 1] = 1  # inner product 0, cosine 0

order = {}
for dtype in ("f32", "f16", "i8"):
    index = Index(ndim=16, metric="ip", dtype=dtype)
    index.add(np.arange(3), vectors)
    order[dtype] = [names[key] for key in index.search(query, 3).keys]
    print(f"{dtype}: {order[dtype]}")

changed = "usearch ranks these vectors differently now"
assert order["f32"] == order["f16"] == ["long", "exact", "other"], changed
assert order["i8"] == ["exact", "long", "other"], changed
PYTHON
