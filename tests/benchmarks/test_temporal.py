import json

import numpy as np
import pytest

from benchmarks.quality import order, temporal
from benchmarks.quality.temporal import Embedded, separations
from benchmarks.quality.temporal_histories import MENTIONS, QUERIES, make_histories
from evomem import HashEncoder, Turn
from evomem.state import State


def test_histories_are_the_same_for_a_seed_and_mention_one_topic_at_known_places():
    histories = make_histories(3, 64, seed=1)
    assert histories == make_histories(3, 64, seed=1)
    assert histories != make_histories(3, 64, seed=2)
    for told in histories:
        assert len(told.turns) == 64
        assert len(told.mentions) == MENTIONS
        assert [place // 4 for place in told.mentions] == list(range(MENTIONS))
        assert len({told.turns[place].text for place in told.mentions}) == MENTIONS


def test_a_text_alone_says_nothing_about_its_place():
    """Read each without a past, mentions tell early from late no better than chance."""
    encoder = HashEncoder()
    alone: State[Turn] = State.empty(encoder.spec)
    histories = make_histories(100, 32, seed=3)
    mentions = [
        [encoder.read(alone, [told.turns[place]])[0].embedding for place in told.mentions]
        for told in histories
    ]
    queries = [encoder.embed_queries(alone, list(told.queries.values())) for told in histories]
    asked = dict(zip(QUERIES, np.swapaxes(queries, 0, 1), strict=True))
    result = separations(Embedded(np.array(mentions), asked))
    assert all(interval.low < 0.5 < interval.high for interval in result.values())


def seen_by(rows):
    """Every history the same: the mentions' similarity to each question is `rows[kind]`."""
    mentions = np.zeros((12, MENTIONS, 3), np.float32)
    queries = {}
    for n, kind in enumerate(QUERIES):
        mentions[:, :, n] = rows[kind]
        queries[kind] = np.tile(np.eye(3, dtype=np.float32)[n], (12, 1))
    return Embedded(mentions, queries)


RISING = np.linspace(0, 1, MENTIONS)


def test_perfect_order_has_an_auc_of_1_and_reversed_order_of_0():
    hill = -np.abs(RISING - 0.5)
    perfect = separations(seen_by({"first": -RISING, "middle": hill, "last": RISING}))
    assert {kind: item.mean for kind, item in perfect.items()} == dict.fromkeys(
        [*QUERIES, "order"], 1.0
    )
    reversed_ = separations(seen_by({"first": RISING, "middle": -hill, "last": -RISING}))
    assert {item.mean for item in reversed_.values()} == {0.0}


def test_a_blind_encoder_has_an_auc_of_one_half():
    blind = separations(seen_by({kind: np.ones(MENTIONS) for kind in QUERIES}))
    assert {item.mean for item in blind.values()} == {0.5}


def test_the_map_has_two_dimensions_for_every_mention_and_question():
    points = seen_by({"first": -RISING, "middle": RISING**2, "last": RISING}).conditioned()
    assert {rows.shape for rows in points.values()} == {(12 * MENTIONS, 2)}


def test_a_run_writes_figures_and_what_they_are_drawn_from(tmp_path, capsys):
    argv = ["--encoder", "hash", "--histories", "3", "--segments", "32", "--out", str(tmp_path)]
    assert temporal.main(argv) == 0
    assert "order" in capsys.readouterr().out
    result = json.loads((tmp_path / "temporal.json").read_text())
    assert set(result["encoders"]["hash"]["curves"]) == set(QUERIES)
    assert len(result["encoders"]["hash"]["curves"]["last"]) == MENTIONS
    assert (tmp_path / "temporal_map_1.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "temporal.svg").stat().st_size < 100_000
    with pytest.raises(SystemExit):
        temporal.main(["--segments", "8"])


def test_order_is_measured_for_encoders_by_name(tmp_path, capsys):
    out = tmp_path / "order.json"
    argv = ["--encoder", "hash", "--histories", "2", "--out", str(out)]
    assert order.main(argv) == 0
    assert "latest" in capsys.readouterr().out
    assert set(json.loads(out.read_text())["sets"]["stories of 56 turns"]) == {"hash"}
