"""The benchmark of words finds what the analyser does right and wrong."""

from __future__ import annotations

import json

from benchmarks.quality import words

SENTENCES = [
    "Nous avons réservé l'hôtel à Besançon.",
    "Le chat dort dans la cuisine depuis midi.",
    "Les chats dorment souvent toute la journée.",
]


def test_queries_are_words_of_one_sentence_only():
    queries = {query.word: query.sentence for query in words.make_queries("fr", SENTENCES)}
    assert queries["besançon"] == 0
    assert queries["chats"] == 2
    assert not {"chat", "dor", "la"} & queries.keys()  # parts of words elsewhere


def test_words_that_find_their_sentence_are_counted_as_written_and_without_accents(tmp_path):
    path = tmp_path / "sentences.json"
    path.write_text(json.dumps({"fr": SENTENCES}), "utf-8")
    out = tmp_path / "words.json"
    assert words.main(["--sentences", str(path), "--out", str(out)]) == 0
    entry = json.loads(out.read_text())["languages"]["fr"]
    assert entry["without accents"] == {"queries": 4, "first": 1.0, "wrong": 0.0}
    assert entry["as written"]["wrong"] > 0  # "chats" has the stem of "chat"


def test_placeholders_are_no_part_of_a_sentence():
    text = "%(name)s has {count} <b>bold</b> cats &amp; %s dogs"
    assert " ".join(words._PLACEHOLDER.sub(" ", text).split()) == "has bold cats dogs"


def test_without_the_translations_the_package_is_named(monkeypatch, capsys):
    monkeypatch.setattr(words, "find_spec", lambda name: None)
    assert words.main(["--language", "hi"]) == 2
    assert "[words]" in capsys.readouterr().err
