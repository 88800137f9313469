"""LangChain's own tests of retrievers, vector stores and embeddings, sync and async."""

from __future__ import annotations

import pytest
from langchain_tests.integration_tests import (
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
    VectorStoreIntegrationTests,
)
from langchain_tests.unit_tests import EmbeddingsUnitTests

import evomem
from evomem_integrations.langchain import (
    EmbeddingsEncoder,
    EvoMemEmbeddings,
    EvoMemRetriever,
    EvoMemVectorStore,
)


class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def conversation(self, db):
        self.memory = db.memory("alice")
        for text in ("I live in Bergen.", "I adopted a cat.", "I moved to Oslo.", "It rains."):
            self.memory.add(text)

    @property
    def retriever_constructor(self):
        return EvoMemRetriever

    @property
    def retriever_constructor_params(self):
        return {"memory": self.memory}

    @property
    def retriever_query_example(self):
        return "Where do I live now?"


class TestVectorStoreWithAnyModel(VectorStoreIntegrationTests):
    """The suite's own model reads the documents: evomem as a plain vector store."""

    @pytest.fixture
    def vectorstore(self, tmp_path):
        encoder = EmbeddingsEncoder(self.get_embeddings())
        with evomem.open(str(tmp_path / "documents.db"), encoder) as opened:
            yield EvoMemVectorStore(opened)


class TestVectorStoreWithMemory(VectorStoreIntegrationTests):
    """An encoder with a memory reads the documents: vectors depend on what came before."""

    @pytest.fixture
    def vectorstore(self, db):
        return EvoMemVectorStore(db)


class EmbeddingsOfHash:
    @property
    def embeddings_class(self):
        return EvoMemEmbeddings

    @property
    def embedding_model_params(self):
        return {"encoder": "hash"}


class TestEmbeddingsUnit(EmbeddingsOfHash, EmbeddingsUnitTests):
    pass


class TestEmbeddings(EmbeddingsOfHash, EmbeddingsIntegrationTests):
    pass
