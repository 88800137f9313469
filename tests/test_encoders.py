import numpy as np
import pytest

from evomem import HashEncoder, Turn, load_encoder
from evomem.errors import EncoderError
from evomem.state import Reading, Spec, State
from evomem.testing import EncoderContract


class TestHashEncoder(EncoderContract):
    tolerance = 0.0

    @pytest.fixture
    def encoder(self):
        return HashEncoder()


def test_an_encoder_is_found_by_name():
    assert load_encoder("hash:64").spec.dim == 64


@pytest.mark.parametrize("name", ["nothing", "/no/such/folder", "hashish:3", "hash:abc", "hash:0"])
def test_an_unknown_encoder_is_refused_with_the_names_there_are(name):
    with pytest.raises(EncoderError, match="hash"):
        load_encoder(name)


def test_a_folder_without_a_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(EncoderError, match=r"config\.json is not a model's configuration"):
        load_encoder(str(tmp_path))


SPEC = Spec("test", "test", dim=2, latents=3, width=2, capacity=8)


def push(state, count, opens):
    for number in range(count):
        latents = np.full((3, 2), len(state.key) + number, np.float32)
        reading = Reading(np.ones(2, np.float32), latents, opens or not state.open)
        state = state.after(Turn(user=f"turn {number}"), reading)
    return state


def test_the_queue_drops_the_oldest_rows_even_in_the_middle_of_a_turn():
    state = push(State.empty(SPEC), 4, opens=True)
    assert state.queue.shape == (8, 2)
    assert state.queue[0, 0] != state.queue[2, 0]  # 8 rows of turns of 3: the oldest is cut


def test_the_chunks_queue_is_the_one_its_first_turn_saw():
    before = push(State.empty(SPEC), 5, opens=True)
    first = before.after(
        Turn(user="a"), Reading(np.ones(2, np.float32), np.ones((3, 2), np.float32), True)
    )
    later = first.after(
        Turn(user="b"), Reading(np.ones(2, np.float32), np.ones((3, 2), np.float32), False)
    )
    assert np.array_equal(first.chunk_queue, before.queue)
    assert np.array_equal(later.chunk_queue, before.queue)
    assert [turn.user for turn in later.open] == ["a", "b"]


def test_equal_pasts_have_equal_keys_and_others_do_not():
    one, same, other = (push(State.empty(SPEC), n, opens=False) for n in (3, 3, 4))
    assert one.key == same.key != other.key
