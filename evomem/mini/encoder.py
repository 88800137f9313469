"""The small encoder as an `Encoder`: a pure function from states to readings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from evomem._forking import TorchForks
from evomem.encoder import Job
from evomem.errors import EncoderError
from evomem.lru_cache import LruCache
from evomem.mini import weights
from evomem.mini.model import QUERY, TURN
from evomem.mini.packed import pack
from evomem.mini.reading import Tokens, lower, queues_of, upper_alone, upper_queries, upper_turns
from evomem.passages import WEIGHT, divide
from evomem.records import Turn
from evomem.state import Reading, Spec, State, Vectors

FOLDER = Path(__file__).parent
WEIGHTS = FOLDER / "model.safetensors"
TOKENIZER = FOLDER / "tokenizer.json"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FORMAT = "mini-2"  # increases when a change of the code changes the output
BLOCK = 64  # maximum number of turns whose token states are in RAM at the same time
PASSAGE = 120  # word pieces per passage of a longer text; a quarter of them overlap
NAME = 16  # maximum word pieces of the speaker's name in front of a passage
SPARE = 4  # extra turns that a queue's tensor may hold: copying it costs as much as a layer
QUEUES_BYTES = (
    64 * 2**20
)  # cache of recently used queues in the form that the upper layers read: 50 memories


class MiniEncoder:
    """See `evomem.mini.load`. Safe to use from several threads."""

    def __init__(
        self,
        source: str = "",
        *,
        device: str | None = None,
        dtype: str | None = None,
        turns: int | None = None,
    ) -> None:
        """Load weights and tokenizer; see `evomem.mini.load` for arguments and errors."""
        file = Path(source).expanduser() if source else WEIGHTS
        dtype = dtype or "float32"
        if dtype not in DTYPES:
            raise EncoderError(
                f"the small encoder computes in {' or '.join(DTYPES)}, got dtype {dtype!r}"
            )
        self._device = torch.device(device or "cpu")
        self._model = weights.load(file).to(self._device, DTYPES[dtype]).eval()
        if self._device.type == "cpu":
            pack(self._model)
        self._forks = TorchForks(self._device)
        config = self._model.config
        self._turns = config.turns if turns is None else turns
        if self._turns < 0:
            raise EncoderError(f"the queue's length is counted in turns, from 0, got {turns}")
        self._tokenizer = Tokenizer.from_file(str(TOKENIZER))
        self._tokenizer.no_padding()
        self._whole = Tokenizer.from_file(str(TOKENIZER))  # does not cut, to count tokens
        self._whole.no_padding()
        self._whole.no_truncation()
        self._tokenizer.enable_truncation(config.max_tokens)
        self._queues: LruCache[bytes, Tensor] = LruCache(QUEUES_BYTES, lambda queue: queue.nbytes)
        memory = self._turns > 0
        self._spec = Spec(
            name=_name(source, None if dtype == "float32" else dtype, turns),
            fingerprint=_fingerprint(file, self._turns, dtype),
            dim=config.dim if memory else config.hidden,
            latents=config.latents if memory else 0,
            width=config.width if memory else 0,
            capacity=self._turns * config.latents,
        )

    @property
    def spec(self) -> Spec:
        """Name, fingerprint and shapes."""
        return self._spec

    def read(self, state: State[Turn], turns: Sequence[Turn]) -> list[Reading]:
        """See `Encoder.read`. Splits differ by the order of floating-point sums, about 1e-6."""
        return self.read_batch([(state, turns)])[0]

    def embed_queries(self, state: State[Turn], queries: Sequence[str]) -> Vectors:
        """See `Encoder.embed_queries`."""
        return self.embed_batch([(state, queries)])[0]

    @property
    def batch_tokens(self) -> int:
        """See `BatchEncoder.batch_tokens`: about a block of short turns."""
        return 2048

    @property
    def parallel(self) -> bool:
        """See `BatchEncoder.parallel`. A GPU runs one pass at a time."""
        return self._device.type == "cpu"

    def measure(self, turn: Turn) -> int:
        """See `BatchEncoder.measure`; four characters to a token."""
        return len(turn.text) // 4 + 1

    @torch.inference_mode()
    def read_batch(self, jobs: Sequence[Job[Turn]]) -> list[list[Reading]]:
        """See `BatchEncoder.read_batch`. Other turns in the batch change a reading by about 1e-6, as splits do."""
        self._forks.check()
        readings: list[list[Reading]] = [[] for _ in jobs]
        states = [state for state, _ in jobs]
        for block in _blocks([len(turns) for _, turns in jobs]):
            parts = [jobs[job][1][start:end] for job, start, end in block]
            rows_of, queues = self._read([states[job] for job, _, _ in block], parts)
            for (job, _, _), turns, rows in zip(block, parts, rows_of, strict=True):
                readings[job] += rows
                for turn, reading in zip(turns, rows, strict=True):
                    states[job] = states[job].after(turn, reading)
            for (job, _, _), queue in zip(block, queues, strict=False):
                newest = queue[-self._turns :]
                if len(queue) > len(newest) + SPARE:
                    newest = newest.clone()
                self._queues.put(states[job].key, newest)
        return readings

    @torch.inference_mode()
    def embed_batch(self, jobs: Sequence[Job[str]]) -> list[Vectors]:
        """See `BatchEncoder.embed_batch`."""
        self._forks.check()
        counts = [len(queries) for _, queries in jobs]
        if not sum(counts):
            return [np.zeros((0, self._spec.dim), np.float32) for _ in jobs]
        model = self._model
        encodings = self._tokenizer.encode_batch([text for _, texts in jobs for text in texts])
        block = lower(model, [encoding.ids for encoding in encodings], QUERY, self._device)
        if self._turns:
            queues = [self._queue(state) for state, _ in jobs]
            now = torch.tensor([_now(state) for state, texts in jobs for _ in texts])
            upper = upper_queries(model, block, queues, counts, now.to(self._device), self._turns)
            vectors = model.both_queries(*upper)
        else:
            vectors = upper_alone(model, block)
        return np.split(_numpy(vectors), np.cumsum(counts)[:-1])

    def _read(
        self, states: Sequence[State[Turn]], parts: Sequence[Sequence[Turn]]
    ) -> tuple[list[list[Reading]], list[Tensor]]:
        """Read the next turns of several memories in one pass; return their queues, too."""
        model, counts = self._model, [len(turns) for turns in parts]
        flat = [turn for turns in parts for turn in turns]
        encodings = self._tokenizer.encode_batch([turn.text for turn in flat])
        tokens = [encoding.ids for encoding in encodings]
        block = lower(model, tokens, TURN, self._device)
        queues: list[Tensor] = []
        if self._turns:
            pasts = [self._queue(state) for state in states]
            queues = queues_of(model, block, pasts, counts)
            now = torch.cat(
                [_now(state) + torch.arange(n) for state, n in zip(states, counts, strict=True)]
            ).to(self._device)
            vectors = model.both_turns(*upper_turns(model, block, queues, counts, now, self._turns))
            numbers = (now + 1)[:, None, None].expand(-1, block.latents.shape[1], 1)
            rows = torch.cat([block.latents, numbers], -1)
        else:
            vectors, rows = upper_alone(model, block), block.latents.new_zeros(len(tokens), 0, 0)
        pairs = list(map(Reading, _numpy(vectors), _numpy(rows)))
        owners = [(job, n) for job, count in enumerate(counts) for n in range(count)]
        for place, (job, n) in enumerate(owners):
            if texts := self._passages(flat[place], encodings[place]):
                seen = queues[job][: n - counts[job]] if queues else None
                embeddings = self._read_passages(texts, seen, _now(states[job]) + n)
                pairs[place] = replace(pairs[place], passages=embeddings)
        ends = np.cumsum(counts).tolist()
        return [pairs[end - n : end] for end, n in zip(ends, counts, strict=True)], queues

    def _read_passages(self, texts: Sequence[Tokens], queue: Tensor | None, now: float) -> Vectors:
        """Read the passages of a turn: (P, D).

        Args:
            texts: The passages.
            queue: The latents of earlier turns, (P, L, W); None without memory.
            now: The number of turns read before it.
        """
        model, parts = self._model, []
        for start in range(0, len(texts), BLOCK):
            some = texts[start : start + BLOCK]
            block = lower(model, some, TURN, self._device)
            if queue is None:
                vectors = upper_alone(model, block)
            else:
                count = len(some)
                times = torch.full([count], now, device=self._device)
                place = [len(queue)] * count
                vectors = model.both_turns(
                    *upper_turns(model, block, [queue], [count], times, self._turns, place)
                )
            parts.append(WEIGHT * _numpy(vectors))
        return np.concatenate(parts)

    def _passages(self, turn: Turn, encoding: Encoding) -> list[Tokens]:
        """Return the word pieces of each passage after the beginning of a turn; none for a short turn.

        Like a turn, a passage begins with the speaker's name: without it, it would be closer to any
        query than turns are.
        """
        if not encoding.overflowing:
            return []
        parts = [encoding, *encoding.overflowing]
        first, *_, last = encoding.ids
        pieces = [piece for part in parts for piece in part.ids[1:-1]]
        starts = [start for part in parts for start, _ in part.offsets[1:-1]]
        window = len(encoding.ids) - 2
        size = min(PASSAGE, window)
        passages: list[Tokens] = []
        reply = len(turn.text) - len(turn.assistant)
        for window_part in divide(len(pieces), window, size, size // 4):
            name = turn.name(reply=starts[window_part.start] >= reply)
            opening = self._whole.encode(f"{name}:", add_special_tokens=False).ids[:NAME]
            passages.append([first, *opening, *pieces[window_part.start : window_part.stop], last])
        return passages

    def count_tokens(self, text: str) -> int:
        """Return the length of `text` in word pieces, uncut."""
        return len(self._whole.encode(text, add_special_tokens=False).ids)

    def _queue(self, state: State[Turn]) -> Tensor:
        """Return the queue's latents in the form that the upper layers read, (P, L, W)."""
        queue = self._queues.get(state.key)
        if queue is None:
            config = self._model.config
            dtype = self._model.roles.dtype
            rows = torch.tensor(state.queue[:, :-1], device=self._device, dtype=dtype)
            queue = self._model.show(rows.reshape(-1, config.latents, config.hidden))
            self._queues.put(state.key, queue)
        return queue


def _now(state: State[Turn]) -> float:
    """Return how many turns were read so far: the newest latent contains its turn's number."""
    return float(state.latents[-1, -1]) if len(state.latents) else 0.0


def _blocks(counts: Sequence[int]) -> Iterator[list[tuple[int, int, int]]]:
    """Split jobs, given by their numbers of turns, into `(job, start, end)` of at most `BLOCK` turns in all."""
    block: list[tuple[int, int, int]] = []
    room = BLOCK
    for job, count in enumerate(counts):
        start = 0
        while start < count:
            end = min(count, start + room)
            block.append((job, start, end))
            room -= end - start
            start = end
            if not room:
                yield block
                block, room = [], BLOCK
    if block:
        yield block


def _numpy(values: Tensor) -> Vectors:
    return values.float().cpu().numpy()


def _name(source: str, dtype: str | None, turns: int | None) -> str:
    """Return the argument of `load_encoder` that loads this encoder."""
    given = {"dtype": dtype, "turns": turns}
    written = urlencode({key: value for key, value in given.items() if value is not None})
    return (f"mini:{source}" if source else "mini") + (f"?{written}" if written else "")


def _fingerprint(file: Path, turns: int, dtype: str) -> str:
    digest = hashlib.sha256(f"{FORMAT} {turns} {dtype}".encode())
    for part in (file, TOKENIZER):
        digest.update(hashlib.sha256(part.read_bytes()).digest())
    return digest.hexdigest()[:32]
