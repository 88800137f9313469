"""Train EvoEmbedding: two adapters and the memory's own weights, on a frozen Qwen3 or Qwen3.5.

`base` makes or loads the model, `samples` turns histories into ids, `objective` is the loss,
`trainer` the run, `saving` writes the checkpoint. Section names, as in
`see "Chunks"`, are those of docs/reference/evoembedding-model.md.
"""
