"""The small encoder behind the `Encoder` contract: states in, readings out, nothing kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from evomem.errors import EncoderError
from evomem.mini import weights
from evomem.mini.model import QUERY, TURN
from evomem.mini.reading import Tokens, lower, upper_alone, upper_queries, upper_turns
from evomem.records import Turn
from evomem.state import Reading, Spec, State, Vectors

FOLDER = Path(__file__).parent
WEIGHTS = FOLDER / "model.safetensors"
TOKENIZER = FOLDER / "tokenizer.json"
FORMAT = "mini-2"  # grows when a change of code changes what comes out
BLOCK = 64  # turns whose token states are in memory at the same time


class MiniEncoder:
    """See `evomem.mini.load`. Safe to use from several threads."""

    def __init__(
        self, source: str = "", *, device: str | None = None, turns: int | None = None
    ) -> None:
        """Load weights and tokenizer; see `evomem.mini.load` for arguments and errors."""
        file = Path(source).expanduser() if source else WEIGHTS
        self._device = torch.device(device or "cpu")
        self._model = weights.load(file).to(self._device).eval()
        config = self._model.config
        self._turns = config.turns if turns is None else turns
        if self._turns < 0:
            raise EncoderError(f"the queue's length is counted in turns, from 0, got {turns}")
        self._tokenizer = Tokenizer.from_file(str(TOKENIZER))
        self._tokenizer.no_padding()
        self._whole = Tokenizer.from_file(str(TOKENIZER))  # counts what the other one cuts off
        self._whole.no_padding()
        self._whole.no_truncation()
        self._tokenizer.enable_truncation(config.max_tokens)
        memory = self._turns > 0
        self._spec = Spec(
            name=f"mini:{source}" if source else "mini",
            fingerprint=_fingerprint(file, self._turns),
            dim=config.dim if memory else config.hidden,
            latents=config.latents if memory else 0,
            width=config.width if memory else 0,
            capacity=self._turns * config.latents,
        )

    @property
    def spec(self) -> Spec:
        """Name, fingerprint and shapes."""
        return self._spec

    @torch.inference_mode()
    def read(self, state: State[Turn], turns: Sequence[Turn]) -> list[Reading]:
        """See `Encoder.read`. Splits differ by the order of floating-point sums, about 1e-6."""
        model = self._model
        past, read = self._past(state)
        readings: list[Reading] = []
        for start in range(0, len(turns), BLOCK):
            tokens = self._tokens([turn.text for turn in turns[start : start + BLOCK]])
            block = lower(model, tokens, TURN, self._device)
            vectors = upper_alone(model, block)
            rows = block.latents.new_zeros(len(tokens), 0, 0)
            if self._turns:
                now = read + torch.arange(float(len(tokens)), device=self._device)
                evolved = upper_turns(model, block, past, now, self._turns)
                vectors = model.both_turns(vectors, evolved)
                numbers = (now + 1)[:, None, None].expand(-1, block.latents.shape[1], 1)
                rows = torch.cat([block.latents, numbers], -1)
                past = torch.cat([past, block.latents])[-self._turns :]
                read += len(tokens)
            readings += map(Reading, _numpy(vectors), _numpy(rows))
        return readings

    @torch.inference_mode()
    def embed_queries(self, state: State[Turn], queries: Sequence[str]) -> Vectors:
        """See `Encoder.embed_queries`."""
        if not queries:
            return np.zeros((0, self._spec.dim), np.float32)
        model = self._model
        block = lower(model, self._tokens(queries), QUERY, self._device)
        vectors = upper_alone(model, block)
        if self._turns:
            past, read = self._past(state)
            evolved, share = upper_queries(model, block, past, read, self._turns)
            vectors = model.both_queries(vectors, evolved, share)
        return _numpy(vectors)

    def count_tokens(self, text: str) -> int:
        """Return the length of `text` in word pieces, uncut."""
        return len(self._whole.encode(text, add_special_tokens=False).ids)

    def _past(self, state: State[Turn]) -> tuple[Tensor, float]:
        """Return the queue's latents (P, L, H) and how many turns were read so far."""
        config = self._model.config
        if not len(state.queue):
            return torch.zeros(0, config.latents, config.hidden, device=self._device), 0.0
        rows = torch.tensor(state.queue, device=self._device)
        past = rows[:, :-1].reshape(-1, config.latents, config.hidden)
        return past, float(rows[-1, -1])

    def _tokens(self, texts: Sequence[str]) -> list[Tokens]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]


def _numpy(values: Tensor) -> Vectors:
    return values.cpu().numpy().astype(np.float32)


def _fingerprint(file: Path, turns: int) -> str:
    digest = hashlib.sha256(f"{FORMAT} {turns} float32".encode())
    for part in (file, TOKENIZER):
        digest.update(hashlib.sha256(part.read_bytes()).digest())
    return digest.hexdigest()[:32]
