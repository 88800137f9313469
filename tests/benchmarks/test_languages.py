"""The facts in many languages are parallel, and a search that needs no meaning finds few of them."""

from __future__ import annotations

import json

import pytest

from benchmarks.quality import languages
from evomem import HashEncoder


def test_every_language_tells_the_same_number_of_facts_once():
    told = languages.load_facts()
    assert set(told) == {"en", "de", "es", "ru", "ar", "hi", "zh", "ja", "ko"}
    for rows in told.values():
        assert len({turn for turn, _ in rows}) == len({asked for _, asked in rows}) == 40


def test_a_fact_counts_if_its_turn_is_the_first_hit():
    told = {
        "en": [("I play the cello.", "cello"), ("I grow tomatoes.", "tomatoes")],
        "de": [("Ich spiele Cello.", "Cello"), ("Ich ziehe Tomaten.", "Gemüse")],
    }
    [(same, across)] = languages.first_hits(told, HashEncoder(), ["lexical"]).values()
    assert same == {"en": [1.0, 1.0], "de": [1.0, 0.0]}
    assert across == {"de": [1.0, 0.0]}  # "cello" is a German word, too


def test_the_mean_of_all_languages_leaves_english_out_and_draws_facts_whole():
    firsts = {"en": [1.0] * 20, "de": [1.0, 0.0] * 10, "es": [1.0, 0.0] * 10}
    summary = languages.summary(firsts)
    assert summary["all"][0] == summary["de"][0] == 0.5
    assert summary["all"] == pytest.approx(summary["de"])  # the second language says nothing new


def test_results_compare_each_encoder_with_words_alone(tmp_path, capsys, monkeypatch):
    few = {name: rows[:8] for name, rows in languages.load_facts().items() if name in ("en", "ja")}
    monkeypatch.setattr(languages, "load_facts", lambda: few)
    out = tmp_path / "languages.json"
    assert languages.main(["--encoder", "hash", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert list(result["same"]) == ["words alone", "hash", "hash, hybrid"]
    assert set(result["same"]["hash"]) - set(result["across"]["hash"]) == {"en"}
    assert "English question" in capsys.readouterr().out
