"""Train EvoEmbedding: two adapters and the memory's own weights, on a frozen Qwen3 or Qwen3.5.

`base` creates or loads the model, `samples` converts histories to token ids, `objective` computes the
loss, `trainer` runs the steps, and `saving` writes the checkpoint. Section names, as in
`see "Chunks"`, are those of docs/reference/evoembedding-model.md.
"""
