"""What LangChain's vector store promises holds with the database of a service."""

import pytest

pytest.importorskip("langchain_tests", reason="needs langchain-tests")

from langchain_tests.integration_tests import VectorStoreIntegrationTests

from evomem_integrations.langchain import EvoMemVectorStore
from tests.integrations.langchain import test_vectorstore
from tests.service.http.running import borrowed

pytestmark = pytest.mark.enable_socket  # to a service of this process, on loopback

store = test_vectorstore.store
OPEN_THEMSELVES = (
    "test_adding_and_searching_take_few_statements_and_transactions",
    "test_a_zero_vector_is_stored_and_a_misshapen_one_refused",
    "test_an_encoder_of_evomem_keeps_its_memory_and_another_model_stays_as_it_is",
    "test_marginal_relevance_prefers_documents_that_differ",
)
globals().update(borrowed(test_vectorstore, without=OPEN_THEMSELVES))


@pytest.fixture(autouse=True)
def log(monkeypatch):
    """Compare what a client sees of a log; embeddings and latents do not travel."""
    monkeypatch.setattr(
        test_vectorstore, "log", lambda memory: [(r.seq, r.text) for r in memory.history()]
    )


class TestVectorStore(VectorStoreIntegrationTests):
    """LangChain's own tests."""

    @pytest.fixture
    def vectorstore(self, db):
        return EvoMemVectorStore(db)
