#!/usr/bin/env bash
# whatstk 0.9.1: a message that quotes a date is cut in two, and the second half gets an invented author.
#
# In an exported WhatsApp chat a message starts a line: date, time, author, colon. whatstk looks for this
# pattern anywhere, not only at the start of a line. A message of one line that names an appointment in the
# export's own date format ends at the date; the rest becomes a message of its own, at the time of the
# appointment, by an author whose name is the text up to the next colon. No warning is given.
#
# Seen on 2026-11-30 with Python 3.11:
#   messages in the export: 2
#   2024-03-12 09:15 'Anna' wrote 'Good morning'
#   2024-03-13 10:02 'Ben' wrote 'the dentist is at'
#   2024-03-20 18:00 'please bring' wrote 'your card'
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check whatstk==0.9.1
cat >"$folder/chat.txt" <<'CHAT'
12/03/2024, 09:15 - Anna: Good morning
13/03/2024, 10:02 - Ben: the dentist is at 20/03/2024, 18:00 - please bring: your card
CHAT
"$folder/venv/bin/python" -W ignore - "$folder/chat.txt" <<'PYTHON'
import sys
from pathlib import Path

from whatstk import df_from_whatsapp

path = sys.argv[1]
messages = df_from_whatsapp(path).to_dict("records")
print("messages in the export:", len(Path(path).read_text().splitlines()))
for message in messages:
    print(f"{message['date']:%Y-%m-%d %H:%M} {message['username']!r} wrote {message['message'].strip()!r}")

changed = "whatstk reads this export differently now"
assert [message["username"] for message in messages] == ["Anna", "Ben", "please bring"], changed
assert f"{messages[2]['date']:%Y-%m-%d %H:%M}" == "2024-03-20 18:00", changed
PYTHON
