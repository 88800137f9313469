"""Locates the files of a checkpoint and reads its weights: safetensors only, one tensor at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from evomem.errors import CheckpointError

TEXT_FILES = ("*.json", "*.txt", "*.jinja", "*.model")
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
SAMPLED_BYTES = 65_536
INDEX = "model.safetensors.index.json"


def resolve(source: str, *, weights: bool, remedy: str, local_only: bool = False) -> Path:
    """Return the folder that `source` names; files of a hub model are downloaded if necessary.

    Only safetensors (with `weights`), configuration and tokenizer files are downloaded, since other
    files could run code.

    Raises:
        CheckpointError: It is neither a folder nor a model on the hub. The message ends with `remedy`.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    patterns = [*TEXT_FILES, *(["*.safetensors"] if weights else [])]
    try:
        return Path(snapshot_download(source, allow_patterns=patterns, local_files_only=local_only))
    except Exception as error:  # the hub client does not wrap the errors of its HTTP library
        raise CheckpointError(
            f"{source!r} is neither a folder here nor a model that the hub gives "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}); {remedy}"
        ) from error


class Weights:
    """The tensors of a folder by name, in one file or in shards. Files are open only while being read."""

    def __init__(self, folder: Path) -> None:
        """List the tensors.

        Raises:
            CheckpointError: There are none, a file is damaged, a shard is missing, the index does not
                match the shards, or weights have an unsupported type.
        """
        self.folder = folder
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, str] = {}
        self._files: dict[str, Path] = {}
        indexed = _indexed(folder)
        for path in sorted(set(indexed.values())) if indexed else [_single(folder)]:
            self._list(path)
        for name, path in indexed.items():
            if self._files.get(name) != path:
                raise CheckpointError(
                    f"{folder / INDEX} says that {name!r} is in {path.name}, but it is not; "
                    "download the checkpoint again"
                )

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """Yield the named tensors as they are stored, file by file."""
        remaining = set(names)
        for path in sorted({self._files[name] for name in remaining}):
            with safe_open(path, "pt") as file:
                for name in sorted(n for n in remaining if self._files[n] == path):
                    yield name, file.get_tensor(name)

    def _list(self, path: Path) -> None:
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():
                    part = file.get_slice(name)
                    self._files[name] = path
                    self.shapes[name] = tuple(part.get_shape())
                    self.dtypes[name] = part.get_dtype()
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path} is damaged or cut short ({error}); download it again"
            ) from error
        for name, dtype in self.dtypes.items():
            if dtype not in DTYPES:
                raise CheckpointError(
                    f"{path}: {name} is stored as {dtype}; supported are {', '.join(DTYPES)}"
                )


def fill(
    module: nn.Module,
    names: Mapping[str, str],
    weights: Weights,
    device: torch.device,
    dtype: torch.dtype,
) -> dict[str, str]:
    """Load the weights of `module`, one tensor at a time.

    Args:
        module: A module on the meta device.
        names: Stored name → name in the module, for all weights.
        weights: The stored weights.
        device: The device of the loaded weights.
        dtype: The dtype of the loaded weights.

    Returns:
        Stored name → digest of up to 64 KiB of the tensor: a sample of evenly spaced values, which
        distinguishes training runs without hashing gigabytes. A change outside the sample is not
        noticed.

    Raises:
        CheckpointError: Names or shapes differ, or a value does not fit `dtype`.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    shapes = {names[stored]: weights.shapes[stored] for stored in names}
    _check(weights.folder, expected, shapes)
    state: dict[str, Tensor] = {}
    samples = {}
    for stored, tensor in weights.read(names):
        samples[stored] = _sample(tensor)
        placed = tensor.to(device=device, dtype=dtype)
        if not placed.isfinite().all():
            raise CheckpointError(
                f"{stored} is not finite in {str(dtype).removeprefix('torch.')}; the file is "
                "damaged, or the dtype too narrow: try bfloat16 or float32"
            )
        state[names[stored]] = placed
    module.load_state_dict(state, assign=True)
    return samples


def _check(
    folder: Path, expected: Mapping[str, tuple[int, ...]], actual: Mapping[str, tuple[int, ...]]
) -> None:
    misshapen = [
        f"{name} is {list(actual[name])}, expected {list(expected[name])}"
        for name in sorted(expected.keys() & actual.keys())
        if actual[name] != expected[name]
    ]
    problems = [
        f"{len(names)} weights {what}: {_some(names)}"
        for what, names in (
            ("missing", sorted(expected.keys() - actual.keys())),
            ("too many", sorted(actual.keys() - expected.keys())),
            ("of another shape", misshapen),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            f"the weights in {folder} do not fit its configuration and its base's; "
            f"{'; '.join(problems)}. Is base= the right one?"
        )


def _some(items: Iterable[str]) -> str:
    first, rest = list(items)[:4], len(list(items)) - 4
    return ", ".join(first) + (f" and {rest} more" if rest > 0 else "")


def _sample(tensor: Tensor) -> str:
    values = tensor.flatten()
    step = max(1, -(-values.nbytes // SAMPLED_BYTES))
    picked = values[::step].contiguous().view(torch.uint8)
    return hashlib.sha256(picked.numpy().tobytes()).hexdigest()


def _indexed(folder: Path) -> dict[str, Path]:
    """Return the shard of every tensor in the index; empty without an index."""
    index = folder / INDEX
    if not index.is_file():
        return {}
    try:
        names = json.loads(index.read_text("utf-8"))["weight_map"]
        shards = {str(name): str(shard) for name, shard in names.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{index} is not an index of shards ({error!r}); download it again"
        ) from error
    for shard in sorted(set(shards.values())):
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise CheckpointError(
                f"{index} names {shard!r}, which is not a safetensors file in the same folder"
            )
        if not (folder / shard).is_file():
            raise CheckpointError(
                f"{folder} lacks the shard {shard!r}; download the checkpoint again"
            )
    return {name: folder / shard for name, shard in shards.items()}


def _single(folder: Path) -> Path:
    path = folder / "model.safetensors"
    if path.is_file():
        return path
    pickled = sorted(p.name for kind in ("*.bin", "*.pt", "*.pth") for p in folder.glob(kind))
    if pickled:
        raise CheckpointError(
            f"{folder} has only pickled weights ({pickled[0]}), which can run code when they are "
            "read; convert them to safetensors on an isolated machine, or ask the publisher"
        )
    raise CheckpointError(f"{folder} has neither model.safetensors nor {INDEX}")
