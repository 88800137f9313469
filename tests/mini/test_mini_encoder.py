import numpy as np
import pytest
import torch

from evomem import Turn, load_encoder
from evomem.errors import CheckpointError, EncoderError
from evomem.mini import load, weights
from evomem.mini.config import MiniConfig
from evomem.mini.model import MiniModel
from evomem.state import State
from evomem.testing import STORY, EncoderContract
from tests.mini.conftest import TINY


class TestMiniEncoder(EncoderContract):
    tolerance = 1e-4  # random weights of this size spread rounding more than trained ones

    @pytest.fixture
    def encoder(self, tiny_file):
        return load(str(tiny_file))


class TestMiniEncoderWithoutMemory(EncoderContract):
    tolerance = 1e-4

    @pytest.fixture
    def encoder(self, tiny_file):
        return load(str(tiny_file), turns=0)


class TestMiniEncoderInBfloat16(EncoderContract):
    tolerance = 0.05  # three significant digits, and a split rounds at other places

    @pytest.fixture
    def encoder(self, tiny_file):
        return load(str(tiny_file), dtype="bfloat16")


def read_all(encoder, turns):
    state: State[Turn] = State.empty(encoder.spec)
    readings = encoder.read(state, turns)
    for turn, reading in zip(turns, readings, strict=True):
        state = state.after(turn, reading)
    return readings, state


def test_a_turn_depends_on_what_came_before(tiny_file):
    encoder = load(str(tiny_file))
    [alone] = encoder.read(State.empty(encoder.spec), [STORY[0]])
    readings, _ = read_all(encoder, [STORY[1], STORY[0]])
    assert np.abs(alone.embedding - readings[1].embedding).max() > 1e-3


def test_a_turn_outside_the_queue_no_longer_matters_but_is_still_counted(tiny_file):
    encoder = load(str(tiny_file))
    notes = [Turn(user=f"Note {i}.") for i in range(TINY.turns)]
    one, _ = read_all(encoder, [STORY[0], *notes, STORY[1]])
    other, _ = read_all(encoder, [STORY[3], *notes, STORY[1]])
    shorter, _ = read_all(encoder, [*notes, STORY[1]])
    np.testing.assert_allclose(one[-1].embedding, other[-1].embedding, atol=1e-4)
    assert one[-1].latents[-1, -1] == TINY.turns + 2
    assert np.abs(one[-1].embedding - shorter[-1].embedding).max() > 1e-3


def test_the_queue_has_another_length_on_request(tiny_file):
    encoder = load(str(tiny_file), turns=2)
    assert encoder.spec.capacity == 2
    assert encoder.spec.fingerprint != load(str(tiny_file)).spec.fingerprint


def test_without_memory_an_embedding_is_the_text_read_alone(tiny_file):
    [complete] = (encoder := load(str(tiny_file))).read(State.empty(encoder.spec), [STORY[0]])
    [alone] = (encoder := load(str(tiny_file), turns=0)).read(State.empty(encoder.spec), [STORY[0]])
    assert len(alone.embedding) == TINY.hidden
    part = complete.embedding[: TINY.hidden] / np.linalg.norm(complete.embedding[: TINY.hidden])
    np.testing.assert_allclose(part, alone.embedding, atol=1e-5)


def test_a_queue_of_negative_length_is_refused(tiny_file):
    with pytest.raises(EncoderError, match="from 0"):
        load(str(tiny_file), turns=-1)


def test_in_bfloat16_embeddings_point_the_same_way():
    complete, half = load(), load(dtype="bfloat16")
    turns = [Turn(user=f"On day {i} I planted {i} trees.") for i in range(20)]
    one, state = read_all(complete, turns)
    other, behind = read_all(half, turns)
    cosines = [a.embedding @ b.embedding for a, b in zip(one, other, strict=True)]
    assert min(cosines) > 0.999
    [query], [same] = (
        encoder.embed_queries(past, ["When did I plant nine trees?"])
        for encoder, past in ((complete, state), (half, behind))
    )
    assert query @ same > 0.999
    assert not np.array_equal(query, same)
    assert complete.spec.fingerprint != half.spec.fingerprint


def test_turns_are_counted_exactly_in_bfloat16(tiny_file):
    readings, _ = read_all(load(str(tiny_file), dtype="bfloat16"), [Turn(user="Hello.")] * 301)
    assert readings[-1].latents[0, -1] == 301  # bfloat16 itself knows 300 and 302


def test_another_precision_is_refused(tiny_file):
    with pytest.raises(EncoderError, match="float32 or bfloat16, got dtype 'float16'"):
        load(str(tiny_file), dtype="float16")


@pytest.mark.parametrize("options", ["", "?turns=2", "?dtype=bfloat16", "?dtype=bfloat16&turns=2"])
def test_its_name_loads_it_again(tiny_file, options):
    spec = load_encoder(f"mini:{tiny_file}{options}").spec
    assert spec.name == f"mini:{tiny_file}{options}"
    assert load_encoder(spec.name).spec == spec


def test_the_beginning_of_a_long_text_is_its_embedding_and_the_rest_are_passages(tiny_file):
    encoder = load(str(tiny_file))
    words = [f"word{n % 10}" for n in range(2000)]
    assert encoder.count_tokens("word " * 5000) == 5000
    before, state = read_all(encoder, STORY)
    [long] = encoder.read(state, [Turn(user=" ".join(words))])
    [same] = encoder.read(state, [Turn(user=" ".join(words[:400]))])
    assert len(long.passages) > len(same.passages) > 0
    assert np.array_equal(long.embedding, same.embedding)
    assert np.array_equal(long.latents, same.latents)
    assert all(not len(reading.passages) for reading in before[:4])


def test_texts_in_a_batch_are_not_affected_by_long_texts_in_it(tiny_file):
    encoder = load(str(tiny_file))
    short = [Turn(user=f"note {n}") for n in range(10)]
    long = Turn(user="word " * 2000)
    opening = Turn(user="word " * 254)  # all of it that the embedding is of
    with_rest, _ = read_all(encoder, [*short, long, *short])
    without, _ = read_all(encoder, [*short, opening, *short])
    for one, other in zip(with_rest, without, strict=True):
        assert np.array_equal(one.embedding, other.embedding)
        assert np.array_equal(one.latents, other.latents)


def test_a_passage_begins_with_the_name_of_who_says_it(tiny_file):
    encoder = load(str(tiny_file))
    turn = Turn(user="hello " * 400, assistant="there " * 400, speaker="Zoe")
    [encoding] = encoder._tokenizer.encode_batch([turn.text])
    passages = [encoder._whole.decode(tokens) for tokens in encoder._passages(turn, encoding)]
    assert passages[0].startswith("zoe : hello hello")
    assert passages[-1].startswith("assistant : there there")
    assert sum("there" in passage for passage in passages) >= 3


def test_saved_weights_come_back_within_their_precision(tiny_model, tiny_file):
    loaded = weights.load(tiny_file).state_dict()
    for name, value in tiny_model.state_dict().items():
        assert torch.allclose(value, loaded[name], atol=0.02), name


def test_a_file_that_is_not_safetensors_is_refused(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"not weights at all, and not long")
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        load(str(file))


def test_weights_of_another_model_are_refused(tmp_path):
    from safetensors.torch import save_file

    file = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(2)}, file)
    with pytest.raises(CheckpointError, match="not a configuration"):
        load(str(file))
    save_file({"a": torch.zeros(2)}, file, {"config": MiniConfig().to_json()})
    with pytest.raises(CheckpointError, match=r"no words\.weight"):
        load(str(file))


def test_weights_of_an_earlier_version_are_refused_with_the_file_and_the_remedy(tmp_path):
    from safetensors.torch import save_file

    file = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(2)}, file, {"config": '{"write_layer": 4, "hidden": 384}'})
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*write_layer.*train it again"):
        load(str(file))


def test_a_configuration_with_unknown_fields_is_refused():
    with pytest.raises(CheckpointError, match="unknown fields"):
        MiniConfig.from_json('{"wings": 2}')


def test_the_largest_model_stays_within_its_budget():
    model = MiniModel(MiniConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) < 35_000_000


def test_the_queue_s_length_can_be_part_of_the_name():
    assert load_encoder("mini?turns=8").spec.capacity == load(turns=8).spec.capacity
    with pytest.raises(EncoderError, match="counted in turns"):
        load_encoder("mini?turns=many")
