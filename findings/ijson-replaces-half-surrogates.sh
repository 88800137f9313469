#!/usr/bin/env bash
# ijson 3.6.0: its default backend changes text that Python's json keeps.
#
# JSON may name half of a surrogate pair by an escape: chat exports that cut a text inside an emoji do.
# The backend yajl2_c, which ijson uses by default, replaces the half at the end of a text by "?" without
# a word. The backend "python" of the same package, and the standard library, return it as it is. Which
# text a program reads therefore depends on which backend happened to be built.
#
# Seen on 2026-11-29 with Python 3.11, Linux x86-64:
#   default backend: yajl2_c
#   yajl2_c: 'cut ?'
#   python: 'cut \ud83d'
#   json: 'cut \ud83d'
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ijson==3.6.0
"$folder/venv/bin/python" - <<'PYTHON'
import io
import json

import ijson

DATA = b'["cut \\ud83d"]'


def read(backend: str) -> str:
    return next(ijson.get_backend(backend).items(io.BytesIO(DATA), "item"))


seen = {
    "default backend": ijson.backend_name,
    "yajl2_c": ascii(read("yajl2_c")),
    "python": ascii(read("python")),
    "json": ascii(json.loads(DATA)[0]),
}
for name, value in seen.items():
    print(f"{name}: {value}")
expected = {
    "default backend": "yajl2_c",
    "yajl2_c": "'cut ?'",
    "python": r"'cut \ud83d'",
    "json": r"'cut \ud83d'",
}
assert seen == expected, f"this has changed: expected {expected}"
PYTHON
