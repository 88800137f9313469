"""Checkpoints are loaded strictly and safely; every refusal names what is wrong and what to do."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch

from evomem.errors import CheckpointError, EncoderError
from evomem.evoembedding import EvoEmbeddingClient, EvoEmbeddingEncoder, load
from evomem.evoembedding.checkpoint import BASE, EMB, load_checkpoint
from evomem.evoembedding.config import DecoderConfig
from evomem.evoembedding.files import resolve
from evomem.evoembedding.tokens import SpecialIds
from evomem.records import Turn
from evomem.state import State
from tests.evoembedding.tiny import BASES, WITH_SYSTEM, build, save, write_json

TURNS = [Turn(user="I visited Paris.", assistant="Noted."), Turn(user="one two three")]


def loaded(tiny, **options):
    return load_checkpoint(str(tiny.checkpoint), **{**tiny.where, **options})


def readings(tiny, **options):
    encoder = load(str(tiny.checkpoint), **{**tiny.where, **options})
    return np.stack([r.embedding for r in encoder.read(State.empty(encoder.spec), TURNS)])


def edit(path, **changes):
    values = json.loads(path.read_text("utf-8"))
    for key, value in changes.items():
        if value is ...:
            values.pop(key, None)
        else:
            values[key] = value
    write_json(path, values)


def assert_refused(tiny, *patterns, **options):
    with pytest.raises(CheckpointError) as caught:
        loaded(tiny, **options)
    for pattern in patterns:
        assert re.search(pattern, str(caught.value)), str(caught.value)


def test_shards_hold_the_same_model_as_one_file(fresh):
    complete = loaded(fresh).spec.fingerprint, readings(fresh)
    save(fresh.checkpoint, fresh.weights, shards=3)
    assert loaded(fresh).spec.fingerprint == complete[0]
    np.testing.assert_array_equal(readings(fresh), complete[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, None], ids=str)
def test_weights_are_cast_from_whatever_they_are_stored_in(fresh, dtype):
    """None: the mixture of published files, where one adapter and the projections are float32."""
    stored = {
        name: tensor.to(dtype or (torch.float32 if "memory_generator" in name or ".0." in name else torch.bfloat16))
        for name, tensor in fresh.weights.items()
    }  # fmt: skip
    save(fresh.checkpoint, stored)
    model = loaded(fresh).model
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    table = stored[BASE + "model.embed_tokens.weight"]
    assert torch.equal(model.decoder.embed_tokens.weight, table.float())
    assert np.isfinite(readings(fresh)).all()
    assert {p.dtype for p in loaded(fresh, dtype="bfloat16").model.parameters()} == {torch.bfloat16}


def test_missing_and_superfluous_weights_are_named(fresh):
    weights = dict(fresh.weights)
    del weights["memory_queries"]
    weights[BASE + "model.layers.9.mlp.up_proj.weight"] = torch.zeros(2)
    save(fresh.checkpoint, weights)
    assert_refused(
        fresh, "1 weights missing: memory_queries", r"1 weights too many: \S*layers\.9\.", "base="
    )


def test_many_missing_weights_are_counted_and_some_are_named(fresh):
    edit(fresh.base / "config.json", num_hidden_layers=5)
    assert_refused(fresh, r"\d+ weights missing: .* and \d+ more")


def test_misshapen_weights_are_named_with_both_shapes(fresh):
    weights = {**fresh.weights, "latent_to_mem.0.bias": torch.zeros(31)}
    save(fresh.checkpoint, weights)
    assert_refused(fresh, r"latent_to_mem\.0\.bias is \[31\], expected \[32\]")


def test_a_checkpoint_without_a_heart_is_none(fresh):
    weights = {n: t for n, t in fresh.weights.items() if n != "mem_to_emb.2.weight"}
    save(fresh.checkpoint, weights)
    assert_refused(fresh, "not an EvoEmbedding checkpoint")


def test_integers_are_no_weights(fresh):
    save(fresh.checkpoint, {**fresh.weights, "memory_queries": torch.zeros(1, 4, 32).long()})
    assert_refused(fresh, "memory_queries is stored as I64; supported are F32, F16, BF16")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_weights_that_are_not_finite_in_the_dtype_are_refused(fresh, value):
    save(fresh.checkpoint, {**fresh.weights, "latent_to_mem.0.bias": torch.full((32,), value)})
    assert_refused(fresh, "latent_to_mem.0.bias is not finite in float16", dtype="float16")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickled_weights_are_refused_unread(fresh, name):
    (fresh.checkpoint / "model.safetensors").unlink()
    (fresh.checkpoint / name).write_bytes(b"\x80\x04.")
    assert_refused(fresh, "only pickled weights", "can run code", "convert them to safetensors")


def test_absent_weights_are_refused(fresh):
    (fresh.checkpoint / "model.safetensors").unlink()
    assert_refused(fresh, "neither model.safetensors nor model.safetensors.index.json")


@pytest.mark.parametrize("keep", [0, 5, 1000, -7])
def test_a_file_cut_short_is_refused(fresh, keep):
    path = fresh.checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert_refused(fresh, "damaged or cut short", "download it again")


def test_a_missing_shard_is_named(fresh):
    save(fresh.checkpoint, fresh.weights, shards=3)
    (fresh.checkpoint / "model-00002-of-00003.safetensors").unlink()
    assert_refused(fresh, "lacks the shard 'model-00002-of-00003.safetensors'")


def test_an_index_that_disagrees_with_its_shards_is_refused(fresh):
    save(fresh.checkpoint, fresh.weights, shards=2)
    index = fresh.checkpoint / "model.safetensors.index.json"
    values = json.loads(index.read_text("utf-8"))
    first, second = sorted(set(values["weight_map"].values()))
    values["weight_map"]["memory_queries"] = {first: second, second: first}[
        values["weight_map"]["memory_queries"]
    ]
    write_json(index, values)
    assert_refused(fresh, "says that 'memory_queries' is in")
    write_json(index, {"weight_map": {"memory_queries": "../../etc/model.safetensors"}})
    assert_refused(fresh, "not a safetensors file in the same folder")
    index.write_text("{", "utf-8")
    assert_refused(fresh, "not an index of shards")


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"buffer_capacity": 0}, "buffer_capacity must be a whole number of at least 1, got 0"),
        ({"num_latents": "4"}, "num_latents must be"),
        ({"lora_r": -1}, "lora_r must be"),
        ({"lora_alpha": None}, "lora_alpha must be"),
        ({"model_type": "bert"}, "of type 'bert', not 'EvoRAG'"),
    ],
)
def test_unusable_settings_of_the_memory_are_named(fresh, changes, pattern):
    edit(fresh.checkpoint / "config.json", **changes)
    assert_refused(fresh, pattern)


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"model_type": "llama"}, "model_type must be one of qwen3"),
        ({"hidden_size": ...}, "hidden_size must be .* got nothing"),
        ({"num_key_value_heads": 3}, "num_key_value_heads must be a divisor of 4"),
        ({"hidden_act": "gelu"}, "hidden_act must be 'silu'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"rope_theta": ...}, "rope_theta must be a number above 0, got nothing"),
        ({"rope_scaling": {"type": "yarn", "factor": 4}}, "type must be 'default'"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6}}, "rope_type"),
        ({"layer_types": ["full_attention"]}, "layer_types must be 2 of full_attention"),
        ({"layer_types": ["linear_attention"] * 2}, "layer_types"),
        ({"vocab_size": 10}, "pass base="),
    ],
)
def test_bases_that_are_not_implemented_are_refused(fresh, changes, pattern):
    edit(fresh.base / "config.json", **changes)
    assert_refused(fresh, pattern)


def test_broken_configurations_are_refused(fresh):
    path = fresh.base / "config.json"
    path.write_text("{", "utf-8")
    assert_refused(fresh, "cannot be read as JSON")
    path.write_text("[]", "utf-8")
    assert_refused(fresh, "holds a list")
    path.unlink()
    assert_refused(fresh, "does not exist")


def test_rope_may_stand_in_either_place_and_a_text_model_within_a_composite_one(fresh):
    path = fresh.base / "config.json"
    plain = DecoderConfig.read(fresh.base)
    edit(path, rope_theta=..., rope_parameters={"rope_type": "default", "rope_theta": 1e6})
    assert DecoderConfig.read(fresh.base) == plain
    text = json.loads(path.read_text("utf-8"))
    composite = {"model_type": "qwen3_vl", "vision_config": {"depth": 3}, "text_config": text}
    write_json(path, composite)
    assert DecoderConfig.read(fresh.base) == plain


def test_layer_types_of_a_hybrid_follow_from_the_interval(tmp_path):
    for extra in ({}, {"full_attention_interval": 4}):
        write_json(tmp_path / "config.json", {**BASES["qwen3_5"], **extra})
        kinds = DecoderConfig.read(tmp_path).layer_types
        assert kinds == ("linear_attention",) * 3 + ("full_attention",)


def test_the_base_the_configuration_names_is_used_unless_another_is_given(fresh):
    edit(fresh.checkpoint / "config.json", base_model_name_or_path=str(fresh.base))
    load_checkpoint(str(fresh.checkpoint), device="cpu")


@pytest.mark.parametrize("name", ["nobody/nothing", "/home/trainer/models/qwen", "not a name"])
def test_a_base_that_cannot_be_found_asks_for_base(fresh, name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    edit(fresh.checkpoint / "config.json", base_model_name_or_path=name)
    with pytest.raises(CheckpointError, match="pass base="):
        load_checkpoint(str(fresh.checkpoint), device="cpu")


def test_only_safe_files_are_fetched_from_the_hub(monkeypatch, tmp_path):
    asked = []

    def download(source, *, allow_patterns, local_files_only):
        asked.append((source, sorted(allow_patterns), local_files_only))
        return str(tmp_path)

    monkeypatch.setattr("evomem.evoembedding.files.snapshot_download", download)
    resolve("a/checkpoint", weights=True, remedy="")
    resolve("a/base", weights=False, remedy="", local_only=True)
    texts = ["*.jinja", "*.json", "*.model", "*.txt"]
    assert asked == [
        ("a/checkpoint", sorted([*texts, "*.safetensors"]), False),
        ("a/base", texts, True),
    ]


def test_devices_and_dtypes_that_do_not_exist_are_refused(fresh):
    with pytest.raises(EncoderError, match="dtype must be one of float32, bfloat16, float16"):
        loaded(fresh, dtype="int8")
    for device in ("cuda:99", "abacus"):
        with pytest.raises(EncoderError, match=f"{device}.*cannot be used"):
            loaded(fresh, device=device)


def test_the_fingerprint_tells_what_decides_the_output(fresh, tmp_path):
    first = loaded(fresh).spec.fingerprint
    assert loaded(fresh).spec.fingerprint == first
    moved = shutil.copytree(fresh.checkpoint, tmp_path / "moved")
    assert load_checkpoint(str(moved), **fresh.where).spec.fingerprint == first
    others = [
        loaded(fresh, dtype="bfloat16"),
        loaded(fresh, special_ids={"end": 5}),
    ]
    edit(fresh.base / "config.json", rope_theta=1e5)
    others.append(loaded(fresh))
    edit(fresh.base / "config.json", rope_theta=1e6)
    edit(fresh.checkpoint / "config.json", buffer_capacity=28)
    others.append(loaded(fresh))
    edit(fresh.checkpoint / "config.json", buffer_capacity=24)
    assert loaded(fresh).spec.fingerprint == first
    bias = fresh.weights["latent_to_mem.0.bias"].clone()
    bias[7] += 1e-3
    save(fresh.checkpoint, {**fresh.weights, "latent_to_mem.0.bias": bias})
    others.append(loaded(fresh))
    assert len({first, *(other.spec.fingerprint for other in others)}) == 1 + len(others)


def test_the_embedding_model_is_loaded_for_native_mode_alone(fresh):
    names = [name for name in fresh.weights if name.startswith(EMB)]
    save(fresh.checkpoint, {n: t for n, t in fresh.weights.items() if n not in names})
    client = EvoEmbeddingClient(str(fresh.checkpoint), **fresh.where)
    assert len(client.encode_texts_with_memory(["one"])) == 1
    with pytest.raises(CheckpointError, match="cannot be inferred"):
        client.encode_texts_with_memory(["one"], native=True)


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize("told", [True, False])
def test_native_weights_may_have_either_name_and_their_shape_be_told_or_inferred(
    fresh, prefix, told
):
    weights = {n: t for n, t in fresh.weights.items() if not n.startswith(EMB)}
    for name, tensor in fresh.weights.items():
        if name.startswith(EMB):
            weights[name.replace(f"{EMB}model.", f"{EMB}{prefix}")] = tensor
    save(fresh.checkpoint, weights)
    emb = str(fresh.checkpoint.parent / "emb") if told else None
    client = EvoEmbeddingClient(str(fresh.checkpoint), emb=emb, **fresh.where)
    rows = client.encode_texts_with_memory(["one", "one two three"], native=True)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    alone = client.encode_texts_with_memory(["one"], ["anything"], native=True)
    np.testing.assert_allclose(rows[:1], alone, atol=1e-5)


def test_native_mode_is_refused_where_the_vocabularies_differ(fresh):
    """As with Qwen3.5 bases: their ids mean nothing to the Qwen3 embedding model."""
    key = f"{EMB}model.embed_tokens.weight"
    save(fresh.checkpoint, {**fresh.weights, key: fresh.weights[key][:100].clone()})
    client = EvoEmbeddingClient(str(fresh.checkpoint), **fresh.where)
    with pytest.raises(CheckpointError, match="the embedding model knows 100"):
        client.encode_messages([{"role": "user", "content": "one"}], native=True)


def test_special_ids_can_be_overridden_in_part_and_as_a_whole(fresh):
    derived = loaded(fresh).tokens.special
    assert loaded(fresh, special_ids={"end": 7}).tokens.special == SpecialIds(
        7, derived.im_end, derived.user, derived.instruction
    )
    assert loaded(fresh, special_ids=SpecialIds(1, 2, 3, (4,))).tokens.special.instruction == (4,)
    with pytest.raises(EncoderError, match=r"special_ids has \['stop'\]"):
        loaded(fresh, special_ids={"stop": 7})
    assert_refused(fresh, "the id 151643", special_ids={"end": 151643})
    assert_refused(fresh, "the id 151645", special_ids=SpecialIds())


def test_a_chat_template_that_is_not_turnwise_is_refused_by_the_stream_alone(tmp_path):
    tiny = build(tmp_path / "system", template=WITH_SYSTEM)
    EvoEmbeddingClient(str(tiny.checkpoint), **tiny.where)
    with pytest.raises(CheckpointError, match="not the concatenation of its turns"):
        EvoEmbeddingEncoder(str(tiny.checkpoint), **tiny.where)


def test_without_a_chat_template_protocol_e_works_and_the_rest_asks_for_one(tmp_path):
    tiny = build(tmp_path / "none", template=None)
    client = EvoEmbeddingClient(str(tiny.checkpoint), **tiny.where)
    messages = [{"role": "user", "content": "one"}]
    assert len(client.encode_messages(messages)) == 1
    with pytest.raises(CheckpointError, match="chat template cannot render"):
        client.send_message_retrieve(messages, 1)


def test_a_broken_tokenizer_is_refused(fresh):
    (fresh.base / "tokenizer.json").write_text("{", "utf-8")
    assert_refused(fresh, "the tokenizer in .* cannot be loaded", "base=")


def test_load_wants_a_name():
    with pytest.raises(EncoderError, match="name a checkpoint"):
        load("")


def test_the_entry_point_loads_a_folder_and_its_name_alone_loads_it_again(fresh):
    from evomem.plugins import load_encoder

    for source in (f"evoembedding:{fresh.checkpoint}", str(fresh.checkpoint)):
        encoder = load_encoder(source, **fresh.where)
        assert encoder.spec.dtype == "float32"
        again = load_encoder(encoder.spec.name, device="cpu")  # the base is part of the name
        assert again.spec == encoder.spec
