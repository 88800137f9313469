import json
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from evomem import HashEncoder, Turn
from evomem.errors import NotFound
from evomem.state import State
from evomem.testing import STORY
from evomem_integrations.memoryos import Embedding, install

PAGE = "User: I live in Bergen. Assistant: A rainy place!"


@pytest.fixture
def embedding():
    return Embedding("hash")


def test_a_page_is_read_as_a_turn_and_anything_else_is_a_query(embedding):
    encoder = HashEncoder()
    empty: State[Turn] = State.empty(encoder.spec)
    [reading] = encoder.read(empty, STORY[:1])
    assert (embedding(PAGE) == reading.embedding).all()
    query = "Where do I live?"
    assert (embedding(query) == encoder.embed_queries(empty, [query])[0]).all()


@pytest.mark.parametrize(
    "text", ["User:  Assistant: ", "", "User: x", "User: x Assistant: ", "a\nb"]
)
def test_every_text_has_a_unit_vector_that_json_can_hold(embedding, text):
    vector = embedding(text, model_name="all-MiniLM-L6-v2", use_cache=False, use_fp16=True)
    assert np.linalg.norm(vector) == pytest.approx(1)
    assert json.loads(json.dumps(vector.tolist()))


def test_the_same_text_has_the_same_vector_whatever_came_between(embedding):
    before = embedding(PAGE)
    embedding("User: I moved to Oslo. Assistant: Nice.")
    assert (embedding(PAGE) == before).all()


def test_install_replaces_the_function_in_every_module_or_in_none():
    modules: list[Any] = [ModuleType(name) for name in ("mid_term", "long_term", "other")]
    mid_term, long_term, other = modules
    mid_term.get_embedding = long_term.get_embedding = original = object()
    with pytest.raises(NotFound, match="other has no get_embedding"):
        install(mid_term, other, encoder="hash")
    assert mid_term.get_embedding is original
    install(mid_term, long_term, encoder="hash")
    assert mid_term.get_embedding is long_term.get_embedding
    assert mid_term.get_embedding("x").shape == (256,)
