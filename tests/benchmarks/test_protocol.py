"""BM25 under other protocols: what each of them changes on conversations made to show it."""

import json

import pytest

from benchmarks.__main__ import main as benchmarks_main
from benchmarks.datasets import load_stream, with_dates
from benchmarks.quality.protocol import VARIANTS, Variant, rankings, without_captions


@pytest.fixture
def data(tmp_path):
    def stream(id, *texts, evidence):
        turns = [{"speaker": "Ann", "text": text, "date": "May-08-2023"} for text in texts]
        queries = [{"question": "Which red dog in May?", "type": "t", "evidence": evidence}]
        return json.dumps({"id": id, "turns": turns, "queries": queries})

    path = tmp_path / "two.jsonl"
    path.write_text(
        "\n".join(
            [
                stream("a", "A red sky.", "A dog.", "A dog again.", evidence=[0]),
                stream(
                    "b", "A red car.", "A red door.", "A red roof.", "The red dog.", evidence=[3]
                ),
            ]
        )
    )
    return path


def best(data, variant):
    return [ranking[0] for ranking in rankings(load_stream(data), variant)]


def test_words_are_weighed_in_the_own_conversation_or_in_all(data):
    """ "Red" is rare in the first conversation and frequent in both together."""
    assert best(data, VARIANTS[0])[0] == 0
    assert best(data, Variant("pooled", pooled=True))[0] != 0


def test_turns_below_the_cut_of_all_conversations_count_nothing(data):
    [first, second] = rankings(load_stream(data), Variant("cut", pooled=True, cut=1))
    assert second[0] == 3
    assert first == [2, 1, 0]  # equals: none of them is kept, the newest first


def test_dates_are_words_and_captions_can_be_left_out(data):
    [talk, _] = load_stream(data).conversations
    assert with_dates(talk).turns[0].text == "[8 May 2023] Ann: A red sky."
    talk.turns[0] = talk.turns[0].__class__(user="Look! [image: a dog]", speaker="Ann")
    assert without_captions(talk).turns[0].text == "Ann: Look!"


def test_a_run_writes_every_variant_of_every_dataset(data, tmp_path, capsys):
    out = tmp_path / "protocol.json"
    assert benchmarks_main(["protocol", "--stream", str(data), "--out", str(out)]) == 0
    result = json.loads(out.read_text())["datasets"]["two"]
    assert list(result) == [variant.name for variant in VARIANTS]
    assert result[VARIANTS[0].name]["per question"][0] == 1.0
    assert "two, BM25 recall@10, %" in capsys.readouterr().out
