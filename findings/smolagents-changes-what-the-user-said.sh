#!/usr/bin/env bash
# smolagents 1.26.0: the message of a task is not what the user said.
#
# `TaskStep.to_messages()` puts "New task:" and a line break in front of the user's text, and marks it as
# the user's own. A program that records conversations from an agent's messages stores these words as if
# the user had said them; the text itself is in `TaskStep.task`.
#
# Seen on 2026-11-29 with Python 3.11:
#   user 'New task:\nI live in Bergen.'
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check smolagents==1.26.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
from smolagents.memory import TaskStep

[message] = TaskStep(task="I live in Bergen.").to_messages()
text = "".join(part["text"] for part in message.content)
role = getattr(message.role, "value", message.role)
print(role, repr(text))
assert (role, text) == ("user", "New task:\nI live in Bergen."), "this has changed"
PYTHON
