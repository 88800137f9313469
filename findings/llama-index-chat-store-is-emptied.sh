#!/usr/bin/env bash
# llama-index-core 0.14.25 with pydantic 2.14.4: saving a chat store empties the file that was there.
#
# `SimpleChatStore.persist` opens the file for writing and then serialises the messages. With pydantic
# 2.14.4 the serialiser of a message raises PydanticSerializationError (it calls `handler(message, info)`),
# so the file of an earlier run is left with 0 bytes. With pydantic 2.13.5 the same calls work; pip
# installs either version without a warning.
#
# Seen on 2026-11-29 with Python 3.11:
#   pydantic 2.13.5: saved twice, 2 messages in the file
#   pydantic 2.14.4: PydanticSerializationError, 0 bytes left of the file
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat >"$folder/save.py" <<'PYTHON'
import sys
from pathlib import Path

import pydantic
from llama_index.core.llms import ChatMessage
from llama_index.core.storage.chat_store import SimpleChatStore

path = Path(sys.argv[1])
# What an earlier run has saved: one message.
path.write_text(
    '{"store": {"alice": [{"role": "user", "additional_kwargs": {}, "blocks": '
    '[{"block_type": "text", "text": "I live in Bergen."}]}]}, "class_name": "SimpleChatStore"}'
)
store = SimpleChatStore.from_persist_path(str(path))
store.add_message("alice", ChatMessage(role="user", content="I moved to Oslo."))
try:
    store.persist(str(path))
except Exception as error:
    result = f"{type(error).__name__}, {path.stat().st_size} bytes left of the file"
else:
    again = SimpleChatStore.from_persist_path(str(path))
    result = f"saved twice, {len(again.get_messages('alice'))} messages in the file"
print(f"pydantic {pydantic.VERSION}: {result}")
PYTHON
output=""
for version in 2.13.5 2.14.4; do
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check llama-index-core==0.14.25 "pydantic==$version"
    line=$("$folder/venv/bin/python" -W ignore "$folder/save.py" "$folder/chats.json")
    echo "$line"
    output+="$line"$'\n'
done
expected='pydantic 2.13.5: saved twice, 2 messages in the file
pydantic 2.14.4: PydanticSerializationError, 0 bytes left of the file
'
[ "$output" = "$expected" ] || { echo "this has changed; expected:"; echo "$expected"; exit 1; }
