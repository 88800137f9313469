"""What the tests of adapters say holds with the database of a service."""

import pytest

pytest.importorskip("langchain", reason="needs the extra [langchain]")

from tests.integrations.langchain import test_history, test_middleware, test_retriever
from tests.service.http.running import borrowed

pytestmark = pytest.mark.enable_socket  # to a service of this process, on loopback

alice, history = test_retriever.alice, test_history.history
memory, model = test_middleware.memory, test_middleware.model
OF_THE_PROCESS = ("test_a_search_changes_nothing", "test_embeddings_are_those_of_an_empty_memory")
for module in (test_retriever, test_history):
    globals().update(borrowed(module, without=OF_THE_PROCESS))
test_an_answer_that_is_made_again_replaces_the_old_one = (
    test_middleware.test_an_answer_that_is_made_again_replaces_the_old_one
)
