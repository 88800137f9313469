"""Finding stores and encoders by name, through entry points of any package."""

from __future__ import annotations

import json
from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution, entry_points
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl

from evomem.encoder import Encoder
from evomem.errors import EncoderError, StoreError
from evomem.store import OpenStore

DEFAULT_ENCODER = "mini"
"""The best encoder that works offline right after installation."""

PACKAGE = "evomem-engine"
"""The distribution whose entry points are looked up first."""


def load_encoder(source: str, *, device: str | None = None, **options: Any) -> Encoder:
    """Load an encoder.

    Args:
        source: `"<kind>:<argument>"` with a kind registered under `evomem.encoders` (`"hash"`,
            `"static:all-MiniLM-L6-v2"`, `"evoembedding:MiG-NJU/EvoEmbedding-4B"`), or a model's
            folder or hub id alone, whose `config.json` then determines the kind. Options may follow as
            in a URL, `"evoembedding:/models/evo?base=/models/qwen"`: so a database, which keeps the
            whole string, can be opened again without naming them.
        device: Where it runs, such as `"cuda"`; None lets the encoder choose.
        **options: For that kind of encoder, such as `dtype` or `base`.

    Raises:
        EncoderError: There is no such encoder, or it cannot be loaded.
        MissingExtra: It needs a package that is not installed.
    """
    address, _, written = source.partition("?")
    options = {**dict(parse_qsl(written)), **options}
    kind = encoder_kind(source)
    named, _, argument = address.partition(":")
    load = cast(EntryPoint, _point("evomem.encoders", kind)).load()
    return cast(Encoder, load(argument if named == kind else address, device=device, **options))


def encoder_kind(source: str) -> str:
    """Return the kind of encoder that `load_encoder` loads: named in `source`, or by the model's config.

    Raises:
        EncoderError: There is no such model.
    """
    address = source.partition("?")[0]
    kind = address.partition(":")[0]
    if _point("evomem.encoders", kind):
        return kind
    return _kind_of(address, sorted(_all_points("evomem.encoders")))


def store_opener(location: str) -> OpenStore:
    """Return the function that opens `location`: a path, or a URL whose scheme names a store.

    Raises:
        StoreError: No store of that name is installed.
    """
    scheme = location.partition("://")[0].partition("+")[0] if "://" in location else "sqlite"
    store = _point("evomem.stores", scheme)
    if store is None:
        installed = ", ".join(sorted(_all_points("evomem.stores")))
        raise StoreError(f"no store named {scheme!r} for {location!r}; installed: {installed}")
    return cast(OpenStore, store.load())


def _point(group: str, name: str) -> EntryPoint | None:
    """Return an entry point: evomem's own, or one of another package; None if there is none."""
    if point := _own_points(group).get(name):
        return point
    if name not in _all_points(group):
        _all_points.cache_clear()  # its package may have been installed since
    return _all_points(group).get(name)


@cache
def _own_points(group: str) -> dict[str, EntryPoint]:
    try:
        points = distribution(PACKAGE).entry_points
    except PackageNotFoundError:  # imported from a folder, without being installed
        return {}
    return {point.name: point for point in points.select(group=group)}


@cache
def _all_points(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}  # opens a file per package


def _kind_of(source: str, kinds: list[str]) -> str:
    config = Path(source).expanduser() / "config.json"
    if not config.is_file():
        if "/" not in source or Path(source).is_absolute():
            raise EncoderError(
                f"no encoder {source!r}: give one of {', '.join(kinds)} (as in "
                f"{DEFAULT_ENCODER!r}), a model's folder, or a hub id such as "
                "'MiG-NJU/EvoEmbedding-4B'"
            )
        config = _config_from_hub(source)
    try:
        model_type = json.loads(config.read_text("utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise EncoderError(f"{config} is not a model's configuration: {error}") from error
    return "evoembedding" if model_type == "EvoRAG" else "static"


def _config_from_hub(source: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(source, "config.json"))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise EncoderError(
            f"{source!r} is neither a folder here nor a model that the hub gives: {error}"
        ) from error
