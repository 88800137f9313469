"""Word vectors of the package wordllama (MIT) as a model for the encoder `static:FOLDER`.

    pip install wordllama
    python -m benchmarks word_vectors FOLDER

An embedding is the mean of a vector per token, looked up in a table: the cheapest encoder there is.
Only the package's data files are read: none of its code runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from evomem._extras import require
from evomem.errors import MissingExtra

PACKAGE = "wordllama"
WEIGHTS, TABLE = "weights/l2_supercat_256.safetensors", "embedding.weight"
TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"


def main(argv: Sequence[str]) -> int:
    """Write the model; return 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks word_vectors", description=__doc__)
    parser.add_argument("folder", type=Path, help="where to write the model")
    package = find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise MissingExtra(PACKAGE, "benchmarks")
    write_model(Path(package.submodule_search_locations[0]), parser.parse_args(argv).folder)
    return 0


def write_model(package: Path, folder: Path) -> None:
    """Write the word vectors in a package's folder as a model of sentence-transformers."""
    from tokenizers import Tokenizer

    table = require("safetensors.numpy", extra="static").load_file(package / WEIGHTS)[TABLE]
    tokenizer = Tokenizer.from_file(str(package / TOKENIZER))
    library = require("sentence_transformers", extra="static")
    modules = require("sentence_transformers.sentence_transformer.modules", extra="static")
    words = modules.StaticEmbedding(tokenizer, embedding_weights=table.astype(np.float32))
    library.SentenceTransformer(modules=[words], device="cpu").save(str(folder))
