"""Stores and encoders that other packages register."""

import pytest

import evomem
from evomem.errors import EncoderError
from evomem.plugins import load_encoder


def install(folder, kind, load="evomem.encoder:load_hash"):
    info = folder / f"{kind}_encoder-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {kind}-encoder\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[evomem.encoders]\n{kind} = {load}\n")


def test_an_encoder_of_a_package_that_is_installed_while_the_program_runs_is_found(
    tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EncoderError, match="no encoder 'later'"):
        load_encoder("later")
    install(tmp_path, "later")
    assert load_encoder("later").spec == evomem.HashEncoder().spec


def test_another_package_cannot_replace_an_encoder_of_evomem(tmp_path, monkeypatch):
    install(tmp_path, "hash", load="evomem.static:load")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_encoder("hash").spec == evomem.HashEncoder().spec


def test_an_unknown_encoder_is_refused_with_the_names_of_all_installed_ones(tmp_path, monkeypatch):
    install(tmp_path, "another")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EncoderError, match="another, evoembedding, hash, mini, multi, static"):
        load_encoder("nothing")
