"""evomem: memory for agents, with embeddings that evolve as the conversation does."""
