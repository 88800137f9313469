"""Every number of every parity fixture: what the public code computes, in float32 on a CPU.

Fixtures are folders `parity-*` below `$EVOMEM_SHARED/fixtures`; nothing here knows one of them.
"""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch.nn import functional as F

from evomem.errors import CheckpointError
from evomem.evoembedding import EvoEmbeddingClient
from evomem.evoembedding.model import INSERT_AT, normalise
from evomem.evoembedding.tokens import Segment, pair_by_position
from evomem.state import State
from tests.conftest import SHARED

FIXTURES = sorted((SHARED / "fixtures").glob("parity-*")) if SHARED.is_dir() else []
WHY = f"no fixtures/parity-* below {SHARED}; set EVOMEM_SHARED"
GOLDEN = [json.loads((f / "golden.json").read_text("utf-8")) for f in FIXTURES]

EMBEDDINGS, LATENTS, SCORES = 1e-5, 1e-4, 1e-3
"""Stricter than the fixtures ask: what two correct codes differ by. A recurrence magnifies rounding
more, so hybrid bases are held to what the fixtures ask (see `tolerance`)."""
FIXTURE_EMBEDDINGS, FIXTURE_LATENTS, FIXTURE_SCORES = 1e-4, 1e-3, 2e-3
SWAPPABLE = 1e-3  # golden scores closer than this may change places


def per_case(kind):
    """Parametrise over the cases of one kind in every fixture."""
    cases = [
        pytest.param(i, name, id=f"{folder.name}-{name}")
        for i, folder in enumerate(FIXTURES)
        for name in GOLDEN[i].get(kind, {})
    ]
    skip = pytest.param(0, "", marks=pytest.mark.skip(reason=WHY), id="absent")
    return pytest.mark.parametrize(("which", "name"), cases or [skip])


@pytest.fixture(scope="module")
def fixtures():
    """Load a fixture once."""
    loaded = {}

    def load(which):
        if which not in loaded:
            folder = FIXTURES[which]
            inputs = json.loads((folder / "inputs.json").read_text("utf-8"))
            loaded[which] = SimpleNamespace(
                golden=GOLDEN[which],
                arrays=load_file(folder / "golden.safetensors"),
                messages={c["id"]: c["messages"] for c in inputs["conversations"]},
                rerank={c["id"]: c for c in inputs["rerank"]},
                special=inputs["special_ids"],
                client=client_of(folder),
            )
        return loaded[which]

    return load


def client_of(folder: Path):
    emb = folder / "emb"
    return EvoEmbeddingClient(
        str(folder / "checkpoint"),
        base=str(folder / "base"),
        emb=str(emb) if (emb / "config.json").is_file() else None,
        device="cpu",
        dtype="float32",
    )


def split(messages):
    return pair_by_position(messages[:-1]), messages[-1]["content"].strip()


def states_of(client, segments):
    """The state after each segment, and all latents in order."""
    return read_once(client, tuple(map(tuple, segments)))


@cache
def read_once(client, segments):
    reader = client.reader
    turns = [Segment.of_ids(ids, [client.tokens.special.end]) for ids in segments]
    state: State[Segment] = State.empty(reader.spec)
    states, latents = [state], []
    for turn, reading in zip(turns, reader.read(state, turns), strict=True):
        state = state.after(turn, reading)
        states.append(state)
        latents.append(reading.latents)
    return states, np.concatenate(latents) if latents else None


def chunk_plan(client, segments):
    """Token counts of the forward passes that write latents, as the fixtures' traces have them."""
    states, _ = states_of(client, segments)
    spec = client.reader.spec
    plan = []
    for i, (before, after, ids) in enumerate(zip(states, states[1:], segments, strict=False)):
        if len(after.open) == 1:
            plan.append(min(i * spec.latents, spec.capacity))
            assert plan[-1] == len(before.queue)
        plan[-1] += len(ids) + spec.latents
    return plan


def tolerance(fixture, strict, asked):
    return asked if fixture.client.model.decoder.config.linear else strict


def assert_rows_close(fixture, actual, want):
    assert actual.shape == want.shape
    assert actual.dtype == np.float32
    allowed = tolerance(fixture, EMBEDDINGS, FIXTURE_EMBEDDINGS)
    np.testing.assert_allclose(actual, want, atol=allowed, rtol=0)
    cosines = (
        (actual * want).sum(-1) / np.linalg.norm(actual, axis=-1) / np.linalg.norm(want, axis=-1)
    )
    assert cosines.min() > 0.9999


def assert_same_order(actual, want, scores):
    """Equal, except that items with golden scores closer than `SWAPPABLE` may change places."""
    assert len(actual) == len(want) == len(set(actual))
    for mine, theirs in zip(actual, want, strict=True):
        assert mine == theirs or abs(scores[mine] - scores[theirs]) < SWAPPABLE


@per_case("conversations")
def test_ids_turns_and_split_points_are_those_of_the_reference(fixtures, which, name):
    fixture = fixtures(which)
    want, tokens = fixture.golden["conversations"][name], fixture.client.tokens
    turns, query = split(fixture.messages[name])
    assert turns == want["turns"]
    assert query == want["query"]
    assert [tokens.ended(turn) for turn in turns] == want["turn_ids"]
    assert tokens.ended(query) == want["query_ids_e"]
    assert [tokens.history(turn) for turn in turns] == want["turn_ids_r"]
    assert tokens.query(query) == want["query_ids_r"]
    chat = tokens.chat(fixture.messages[name])
    assert chat == want["chat_ids"]
    assert tokens.split_points(chat) == want["split_points"]
    assert (len(tokens.segments(chat)) == len(turns) + 1) == want["counts_match"]


@pytest.mark.parametrize(
    "which",
    [pytest.param(i, id=f.name) for i, f in enumerate(FIXTURES)]
    or [pytest.param(0, marks=pytest.mark.skip(reason=WHY), id="absent")],
)
def test_special_ids_are_derived_from_the_tokenizer(fixtures, which):
    special, want = fixtures(which).client.tokens.special, fixtures(which).special
    assert special.end == want["endoftext"]
    assert special.im_end == want["im_end"]
    assert special.user == want["user"]
    assert list(special.instruction) == want["prefix"]


@per_case("conversations")
def test_chunks_are_cut_where_the_reference_cuts_them(fixtures, which, name):
    fixture = fixtures(which)
    want, tokens = fixture.golden["conversations"][name], fixture.client.tokens
    turns, _ = split(fixture.messages[name])
    evolved = {
        "trace_e": [tokens.ended(turn) for turn in turns],
        "trace_r": tokens.segments(want["chat_ids"])[:-1],
    }
    for trace, segments in evolved.items():
        passes = [real for adapter, _, _, real in want[trace] if adapter == "memory_generator"]
        assert chunk_plan(fixture.client, segments) == passes


@per_case("conversations")
def test_latents_and_queues_equal_the_reference(fixtures, which, name):
    fixture = fixtures(which)
    tokens, arrays = fixture.client.tokens, fixture.arrays
    turns, _ = split(fixture.messages[name])
    evolved = {
        "e": [tokens.ended(turn) for turn in turns],
        "r": tokens.segments(tokens.chat(fixture.messages[name]))[:-1],
    }
    for protocol, segments in evolved.items():
        states, latents = states_of(fixture.client, segments)
        if latents is None:
            assert f"{name}/{protocol}/latents_all" not in arrays
            continue
        want, allowed = (
            arrays[f"{name}/{protocol}/latents_all"],
            tolerance(fixture, LATENTS, FIXTURE_LATENTS),
        )
        np.testing.assert_allclose(latents, want, atol=allowed, rtol=0)
        if protocol == "e":
            np.testing.assert_allclose(
                states[-1].queue, arrays[f"{name}/e/buffer"], atol=allowed, rtol=0
            )


@per_case("conversations")
def test_protocol_e_embeddings_equal_the_reference(fixtures, which, name):
    fixture = fixtures(which)
    actual = fixture.client.encode_messages(fixture.messages[name])
    assert_rows_close(fixture, actual, fixture.arrays[f"{name}/e/embeddings"])


@per_case("conversations")
@pytest.mark.filterwarnings("ignore:the chat template gives")
def test_protocol_r_embeddings_equal_the_reference(fixtures, which, name):
    fixture = fixtures(which)
    actual = fixture.client.encode_for_retrieval(fixture.messages[name])
    assert_rows_close(fixture, actual, fixture.arrays[f"{name}/r/embeddings"])


@per_case("conversations")
def test_raw_embeddings_equal_the_reference(fixtures, which, name):
    """Before normalisation, each behind its own queue: by the model alone, without any cache."""
    fixture = fixtures(which)
    client, messages = fixture.client, fixture.messages[name]
    turns, query = split(messages)
    texts = [*map(client.tokens.history, turns), client.tokens.query(query)]
    segments = client.tokens.segments(client.tokens.chat(messages))[:-1]
    states, _ = states_of(client, segments)
    if len(segments) != len(turns):
        states = [states[-1]] * len(texts)
    with torch.no_grad():
        queues = [client.reader.queue_of(state) for state in states]
        raw = client.model.embed_behind(queues, texts)
    want = fixture.arrays[f"{name}/r/embeddings_raw"]
    np.testing.assert_allclose(
        raw.numpy(), want, atol=tolerance(fixture, 1e-4, 1e-3) * max(1, np.abs(want).max()), rtol=0
    )
    assert_rows_close(fixture, normalise(raw).numpy(), fixture.arrays[f"{name}/r/embeddings"])


@per_case("conversations")
@pytest.mark.filterwarnings("ignore:the chat template gives")
def test_scores_and_rankings_equal_the_reference(fixtures, which, name):
    fixture = fixtures(which)
    want, arrays = fixture.golden["conversations"][name], fixture.arrays
    client, messages = fixture.client, fixture.messages[name]
    ranking = client.generate_retrieve_idx(messages)
    if not want["turns"]:
        assert all(len(part) == 0 for part in ranking.values())
        assert client.send_message_retrieve(messages, 3) == []
        return
    scores = arrays[f"{name}/r/scores"]
    np.testing.assert_allclose(
        ranking["scores"], scores, atol=tolerance(fixture, SCORES, FIXTURE_SCORES), rtol=0
    )
    np.testing.assert_allclose(
        ranking["probs"],
        arrays[f"{name}/r/probs"],
        atol=tolerance(fixture, SCORES, FIXTURE_SCORES),
        rtol=0,
    )
    np.testing.assert_allclose(
        ranking["sorted_scores"],
        arrays[f"{name}/r/sorted_scores"],
        atol=tolerance(fixture, SCORES, FIXTURE_SCORES),
        rtol=0,
    )
    assert_same_order(ranking["sorted_indices"].tolist(), want["sorted_indices"], scores)
    for k in (1, 3) if len(want["turns"]) < 8 else (3,):  # which k is asked for costs a reading
        best = client.send_message_retrieve(messages, k)
        assert best == sorted(best)
        if want["min_score_gap"] is None or want["min_score_gap"] > SWAPPABLE:
            assert best == want[f"send_message_retrieve_{k}"]


@per_case("conversations")
def test_native_embeddings_and_scores_equal_the_reference(fixtures, which, name):
    fixture = fixtures(which)
    want, arrays = fixture.golden["conversations"][name], fixture.arrays
    if f"{name}/e/native" not in arrays:
        pytest.skip("this fixture has no native mode")
    client, messages = fixture.client, fixture.messages[name]
    assert_rows_close(
        fixture, client.encode_messages(messages, native=True), arrays[f"{name}/e/native"]
    )
    ranking = client.generate_retrieve_idx(messages, native=True)
    if want["turns"]:
        scores = arrays[f"{name}/r/native_scores"]
        np.testing.assert_allclose(
            ranking["scores"], scores, atol=tolerance(fixture, SCORES, FIXTURE_SCORES), rtol=0
        )
        order = ranking["sorted_indices"].tolist()
        assert_same_order(order, want["native_sorted_indices"], scores)


@per_case("rerank")
def test_rerank_equals_the_reference(fixtures, which, name):
    fixture = fixtures(which)
    case, want = fixture.rerank[name], fixture.golden["rerank"][name]
    for native in (False, True):
        kind = "native" if native else "memory"
        if kind not in want:
            continue
        candidates, indices = fixture.client.rerank(
            case["query"],
            case["candidates"],
            top_k=case["top_k"],
            native=native,
            return_indices=True,
        )
        scores = fixture.arrays[f"rerank/{name}/{kind}_scores"]
        assert_same_order(indices, want[kind], scores)
        assert candidates == [case["candidates"][i] for i in indices]


@per_case("generate")
def test_generated_ids_equal_the_reference(fixtures, which, name):
    fixture = fixtures(which)
    client, messages = fixture.client, fixture.messages[name]
    want = fixture.golden["generate"][name]
    assert client.generate(messages, max_new_tokens=len(want["with_memory"])) == want["with_memory"]
    raw = client.generate_raw(messages, max_new_tokens=len(want["raw"]))
    assert raw == client.tokens.chat(messages) + want["raw"]


@per_case("train")
def test_training_losses_follow_from_the_public_parts(fixtures, which, name):
    """The training objective: memory from the segments, an SFT loss after it, a ranking loss."""
    fixture = fixtures(which)
    client, want = fixture.client, fixture.golden["train"][name]
    ids = client.tokens.chat(want["messages"], answer=False)
    *segments, last = client.tokens.segments(ids)
    states, _ = states_of(client, segments)
    queue = client.reader.queue_of(states[-1])
    with torch.no_grad():
        hidden, _ = client.model.decoder(client.model.prompt(last, queue)[None])
        # A position predicts the next: labels shift by the queue that was inserted before them.
        start = want["label_start"] - (len(ids) - len(last))
        end = want["label_end"] - (len(ids) - len(last))
        assert start > INSERT_AT
        behind = len(queue)
        logits = client.model.logits(hidden[0, behind + start - 1 : behind + end - 1])
    sft = F.cross_entropy(logits, torch.tensor(last[start:end])).item()
    assert sft == pytest.approx(want["sft_loss"], abs=1e-3)

    asked = want["messages"][:-1]
    scores = client.generate_retrieve_idx(asked)["scores"]
    evidence = want["evidence_turns"]
    others = np.delete(scores, evidence)
    losses = [
        F.cross_entropy(torch.tensor([[scores[p], *others]]), torch.tensor([0])).item()
        for p in evidence
    ]
    contrastive = float(np.mean(losses)) * math.log(len(others) + 1)
    assert contrastive == pytest.approx(want["contrastive"], abs=5e-3)
    assert sft + contrastive == pytest.approx(want["total"], abs=5e-3)


@per_case("rerank")
def test_shape_told_from_the_weights_gives_the_same_native_numbers(fixtures, which, name):
    """Without emb=, heads and sizes come from the weights; rope and norm from the published ones."""
    fixture = fixtures(which)
    folder, case = FIXTURES[which], fixture.rerank[name]
    config = folder / "emb" / "config.json"
    if not config.is_file() or json.loads(config.read_text("utf-8")).get("rope_theta") != 1e6:
        pytest.skip("this fixture's embedding model is not of the published kind")
    told = EvoEmbeddingClient(
        str(folder / "checkpoint"), base=str(folder / "base"), device="cpu", dtype="float32"
    )
    texts = [*case["candidates"], case["query"]]
    given = fixture.client.encode_texts_with_memory(texts, native=True)
    np.testing.assert_allclose(
        told.encode_texts_with_memory(texts, native=True), given, atol=EMBEDDINGS
    )


@pytest.mark.parametrize("folder", FIXTURES or [pytest.param(None, marks=pytest.mark.skip(WHY))])
def test_a_base_that_cannot_be_resolved_asks_for_it(folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="pass base="):
        EvoEmbeddingClient(str(folder / "checkpoint"), device="cpu")


@pytest.mark.parametrize(
    "which",
    [pytest.param(i, id=f.name) for i, f in enumerate(FIXTURES)]
    or [pytest.param(0, marks=pytest.mark.skip(reason=WHY), id="absent")],
)
def test_conversations_that_are_read_together_equal_the_reference(fixtures, which):
    """All of them in the same forward passes, and then all of their queries."""
    fixture = fixtures(which)
    tokens, reader = fixture.client.tokens, fixture.client.reader
    jobs: list[tuple[State[Segment], list[Segment]]] = []
    asked, names = [], []
    for name, messages in fixture.messages.items():
        turns, query = split(messages)
        segments = tokens.segments(tokens.chat(messages))[:-1]
        if len(segments) == len(turns):
            pairs = zip(segments, map(tokens.history, turns), strict=True)
            jobs.append((State.empty(reader.spec), [Segment.of_ids(*pair) for pair in pairs]))
            asked.append([tokens.query(query)])
            names.append(name)
    assert len(names) > 10
    reader.caches.clear()
    readings = reader.read_batch(jobs)
    ends = []
    for (state, turns), result in zip(jobs, readings, strict=True):
        for turn, reading in zip(turns, result, strict=True):
            state = state.after(turn, reading)
        ends.append(state)
    queries = reader.embed_batch(list(zip(ends, asked, strict=True)))
    for name, result, query in zip(names, readings, queries, strict=True):
        rows = np.stack([*(reading.embedding for reading in result), query[0]])
        assert_rows_close(fixture, rows, fixture.arrays[f"{name}/r/embeddings"])
        if result:
            latents = np.concatenate([reading.latents for reading in result])
            allowed = tolerance(fixture, LATENTS, FIXTURE_LATENTS)
            want = fixture.arrays[f"{name}/r/latents_all"]
            np.testing.assert_allclose(latents, want, atol=allowed, rtol=0)
