"""The bundled encoder: small, evolvable, no download. `MODEL_CARD.md` describes its training.

>>> encoder = load()  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evomem.errors import EncoderError

if TYPE_CHECKING:
    from evomem.mini.encoder import MiniEncoder

__all__ = ["load"]


def load(
    source: str = "",
    *,
    device: str | None = None,
    dtype: str | None = None,
    turns: int | str | None = None,
) -> MiniEncoder:
    """Load the small encoder; the entry point `mini`.

    Args:
        source: A weight file that `python -m evomem.training` wrote; the bundled one if empty.
        device: Such as `"cuda"`; None is the CPU.
        dtype: The type of its computations, `"float32"` (also None) or `"bfloat16"`. Readings are
            always float32.
        turns: The length of the queue in turns, instead of the configured one; 0 disables the memory.

    Raises:
        EncoderError: It cannot be loaded, or the dtype is not supported.
    """
    if isinstance(turns, str):  # from a name such as "mini?turns=8"
        if not turns.isdecimal():
            raise EncoderError(f"the queue's length is counted in turns, from 0, got {turns!r}")
        turns = int(turns)
    from evomem.mini.encoder import MiniEncoder

    return MiniEncoder(source, device=device, dtype=dtype, turns=turns)
