"""The network of multilingual-e5-small: a BERT of 12 layers; its embedding is the mean of the token states."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from evomem.mini.model import EPS, Layer, Lengths, direction, of_positions
from evomem.mini.packed import pack
from evomem.multi.checkpoint import SHAPES, Checkpoint, dequantized

FILES = {
    "qkv": ("q", "k", "v"),
    "out": ("ao",),
    "norm": ("aln",),
    "grow": ("fi",),
    "shrink": ("fo",),
    "last_norm": ("oln",),
}
"""Part of a layer → the names of its tensors in the file."""


class MultiModel(nn.Module):
    """Ids to embeddings: N texts with R tokens in all, H hidden units."""

    places: Tensor

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        """Load the weights onto a device, rounded to float16, which is far more precise than their 4 bits.

        The word table, four fifths of the model, stays in the file in 4 bits.

        Raises:
            CheckpointError: A tensor is missing or has another shape.
        """
        super().__init__()
        vocab, hidden = SHAPES.vocab, SHAPES.hidden

        def tensor(name: str, *shape: int) -> Tensor:
            return torch.from_numpy(checkpoint.tensor(name, *shape)).half().float()

        self._table = checkpoint.table("emb.word", vocab, hidden)
        places = tensor("emb.pos", SHAPES.positions, hidden) + tensor("emb.type", 2, hidden)[0]
        self.register_buffer("places", places)
        self.norm = nn.LayerNorm(hidden, eps=EPS)
        self.norm.weight.data = tensor("emb.ln.w", hidden)
        self.norm.bias.data = tensor("emb.ln.b", hidden)
        self.layers = nn.ModuleList()
        for number in range(SHAPES.layers):
            with torch.device("meta"):  # allocates nothing: every parameter is in the file
                layer = Layer(SHAPES)
            state = {}
            for name, parameter in layer.named_parameters():
                part, end = name.split(".")
                files = FILES[part]
                rows, *columns = parameter.shape
                state[name] = torch.cat(
                    [
                        tensor(f"l{number}.{file}.{end[0]}", rows // len(files), *columns)
                        for file in files
                    ]
                )
            layer.load_state_dict(state, assign=True)
            if device.type == "cpu":
                pack(
                    layer
                )  # before the next layer is read, since float32 weights take twice the memory
            self.layers.append(layer)
        self.to(device).eval()

    def forward(self, ids: Tensor, lengths: Lengths) -> Tensor:
        """Map the ids of all texts (R,), consecutive and sorted by length, to unit rows (N, H)."""
        used, back = np.unique(ids.cpu().numpy(), return_inverse=True)
        words = torch.from_numpy(dequantized(self._table[used])[back])
        x = self.norm(words.to(ids.device) + of_positions(self.places, lengths))
        for layer in self.layers:
            x = layer(x, lengths)
        return direction(x, lengths)
