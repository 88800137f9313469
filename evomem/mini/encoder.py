"""The small encoder as an `Encoder`: a pure function from states to readings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor
from torch.nn import functional as F

from evomem._forking import TorchForks
from evomem.encoder import Job
from evomem.errors import EncoderError
from evomem.mini import weights
from evomem.mini.model import QUERY, TURN
from evomem.mini.packed import pack
from evomem.mini.reading import Tokens, contents_of
from evomem.passages import WEIGHT, divide
from evomem.records import Turn
from evomem.state import Reading, Spec, State, Vectors

FOLDER = Path(__file__).parent
WEIGHTS = FOLDER / "model.safetensors"
TOKENIZER = FOLDER / "tokenizer.json"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FORMAT = "mini-3"  # increases when a change of the code changes the output
BLOCK = 64  # maximum number of turns that are read at once
PASSAGE = 120  # word pieces per passage of a longer text; a quarter of them overlap
NAME = 16  # maximum word pieces of the speaker's name in front of a passage


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
        memory = self._turns > 0
        self._spec = Spec(
            name=_name(source, None if dtype == "float32" else dtype, turns),
            fingerprint=_fingerprint(file, self._turns, dtype),
            dim=config.dim if memory else config.hidden,
            latents=1 if memory else 0,
            width=config.width if memory else 0,
            capacity=self._turns,
        )

    @property
    def spec(self) -> Spec:
        """Name, fingerprint and shapes."""
        return self._spec

    @property
    def order(self) -> int:
        """The number of coordinates at the end of an embedding that encode order; 0 without memory."""
        return self._model.config.order if self._turns else 0

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
            rows_of = self._read([states[job] for job, _, _ in block], parts)
            for (job, _, _), turns, rows in zip(block, parts, rows_of, strict=True):
                readings[job] += rows
                for turn, reading in zip(turns, rows, strict=True):
                    states[job] = states[job].after(turn, reading)
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
        vectors = contents_of(model, [encoding.ids for encoding in encodings], QUERY, self._device)
        if self._turns:
            now = torch.tensor([_now(state) for state, texts in jobs for _ in texts])
            asked = model.asked(vectors, now.to(self._device))
            vectors = F.normalize(model.query_vectors(vectors, asked), dim=-1)
        return np.split(_numpy(vectors), np.cumsum(counts)[:-1])

    def _read(
        self, states: Sequence[State[Turn]], parts: Sequence[Sequence[Turn]]
    ) -> list[list[Reading]]:
        """Read the next turns of several memories; their texts share passes."""
        flat = [turn for turns in parts for turn in turns]
        encodings = self._tokenizer.encode_batch([turn.text for turn in flat])
        contents = contents_of(
            self._model, [encoding.ids for encoding in encodings], TURN, self._device
        )
        readings, start = [], 0
        for state, turns in zip(states, parts, strict=True):
            part = slice(start, start + len(turns))
            readings.append(self._evolve(state, turns, encodings[part], contents[part]))
            start = part.stop
        return readings

    def _evolve(
        self,
        state: State[Turn],
        turns: Sequence[Turn],
        encodings: Sequence[Encoding],
        contents: Tensor,
    ) -> list[Reading]:
        """Return the readings of a memory's next turns from their contents, (N, H)."""
        model, hidden = self._model, self._model.config.hidden
        passages = [
            contents_of(model, self._passages(turn, encoding), TURN, self._device)
            for turn, encoding in zip(turns, encodings, strict=True)
        ]
        if not self._turns:
            latents = contents.new_zeros(len(turns), 0, 0)
            vectors, parts = contents, passages
        else:
            queue = torch.tensor(state.queue, device=self._device)
            now = _now(state) + torch.arange(len(turns), device=self._device)
            rows = torch.cat([contents, now[:, None] + 1], -1)
            seen, first = torch.cat([queue[:, :hidden], contents]), len(queue)
            before = model.before(seen, self._turns)[first:]
            mentions = model.mentions(model.subjects(seen), self._turns)[first:]
            vectors = model.turn_vectors(contents, before, now, mentions)
            latents = rows[:, None]
            parts = [
                model.turn_vectors(
                    passage,
                    before[n].expand(len(passage), -1),
                    now[n].expand(len(passage)),
                    mentions[n].expand(len(passage)),
                )
                for n, passage in enumerate(passages)
            ]
        return [
            Reading(vector, latent, passages=WEIGHT * _numpy(part))
            if len(part)
            else Reading(vector, latent)
            for vector, latent, part in zip(_numpy(vectors), _numpy(latents), parts, strict=True)
        ]

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
