import json
import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.datasets.find import load_all
from benchmarks.systems import plugin, plugin_hosts
from evomem import load_encoder


@pytest.fixture
def data(tmp_path):
    stream = {
        "id": "one",
        "turns": [
            {"speaker": "user", "text": "I adopted a cat called Miso."},
            {"speaker": "assistant", "text": "Lovely!"},
            {"speaker": "user", "text": "I moved to Oslo."},
        ],
        "queries": [
            {"question": "Which cat did I adopt?", "type": "pets", "evidence": [0]},
            {"question": "Where did I move to?", "type": "places", "evidence": [2]},
            {"question": "What did Mel adopt?", "type": "adversarial", "evidence": [0]},
        ],
    }
    path = tmp_path / "tiny.jsonl"
    path.write_text(json.dumps(stream))
    return path


def test_every_host_is_run_with_its_own_retriever_and_with_each_encoder(data, tmp_path, capsys):
    out = tmp_path / "out.json"
    argv = ["--stream", str(data), "--encoder", "hash", "--encoder", "hash:64", "--out", str(out)]
    assert plugin.main(argv) == 0
    [entry] = json.loads(out.read_text())["datasets"]
    assert [row["system"] for row in entry["rows"]] == [
        "A-MEM, its default re-implemented",
        "A-MEM + hash",
        "A-MEM + hash:64",
        "LightMem, its default re-implemented",
        "LightMem + hash",
        "LightMem + hash:64",
    ]
    assert all(row["overall"]["all"]["recall@5"] == 1 for row in entry["rows"])
    assert entry["counts"]["questions"] == 2  # without the adversarial one
    assert "recall@10 in percent" in capsys.readouterr().out


def test_a_checkout_that_cannot_be_imported_is_named(data, tmp_path, capsys):
    for option in ("--amem", "--lightmem"):
        assert plugin.main(["--stream", str(data), option, str(tmp_path)]) == 2
        assert f"cannot be imported from {tmp_path}" in capsys.readouterr().err


@pytest.mark.slow
def test_the_hosts_own_retrievers_rank_as_a_second_implementation_of_their_default(data, tmp_path):
    """Needs EVOMEM_AMEM_EVAL and EVOMEM_LIGHTMEM, checkouts with what they import installed."""
    amem, lightmem = (os.environ.get(item) for item in ("EVOMEM_AMEM_EVAL", "EVOMEM_LIGHTMEM"))
    if not (amem and lightmem):
        pytest.skip("set EVOMEM_AMEM_EVAL and EVOMEM_LIGHTMEM to checkouts")
    [dataset] = load_all(plugin._parser().parse_args(["--stream", str(data)]))
    turns = dataset.conversations[0].turns
    encoder = load_encoder(plugin.DEFAULT)
    cases: list[tuple[str, Any, plugin.Plugged]] = [
        ("A-MEM", plugin.note, plugin.Amem("x", plugin_hosts.amem(Path(amem)))),
        ("LightMem", plugin.memory, plugin.LightMem("x", plugin_hosts.lightmem(Path(lightmem)))),
    ]
    for host, text, theirs in cases:
        written = plugin.AsDefault(host, text, encoder).index(turns)
        own = theirs.index(turns)
        for question in ("Which cat?", "Oslo", "Where do I live?"):
            assert list(own(question, 3)) == list(written(question, 3))
