"""Indexes of embeddings: FAISS in this process, pgvector, Milvus."""
