"""Backups, exports and re-encodings that were killed: nothing half is ever taken for whole."""

from __future__ import annotations

import errno

import evomem
from evomem.errors import EvomemError
from evomem.reencode import reencode
from tests.durability.plans import ENCODER, OTHER, open_database
from tests.durability.reference import assert_sound, expected, snapshot
from tests.durability.trials import Bench


def test_a_backup_that_was_killed_is_whole_or_not_there(bench: Bench):
    seen = set()
    for number in range(2, bench.calls("backup"), 4):
        target = bench.killed_at("backup", number) / "b.db"
        seen.add(target.exists())
        if target.exists():
            with open_database(target) as db:
                assert snapshot(db) == expected("backup")[0]
    assert seen == {True, False}


def test_an_export_that_was_killed_is_refused_or_whole(bench: Bench):
    seen = set()
    for number in range(2, bench.calls("export"), 6):
        folder = bench.killed_at("export", number)
        with open_database(folder / "d.db") as db:
            try:
                db.load(folder / "dump")
                assert snapshot(db) == expected("export")[0]
                seen.add("whole")
            except EvomemError:
                assert snapshot(db) == {}
                seen.add("refused")
    assert seen == {"whole", "refused"}


def test_a_reencoding_that_was_killed_leaves_one_encoder_and_continues_where_it_was(bench: Bench):
    seen = set()
    for number in range(3, bench.calls("reencode"), 8):
        path = bench.killed_at("reencode", number, torn=number % 2 == 0) / "a.db"
        with evomem.open(str(path)) as db:
            seen.add(db.spec.fingerprint)
            assert [fault for fault in db.verify() if "replaced when needed" not in fault] == []
        reencode(str(path), OTHER)
        reencode(str(path), ENCODER)
        with open_database(path) as db:
            assert snapshot(db) in expected("reencode")
            assert_sound(db)
    assert seen == {ENCODER.spec.fingerprint, OTHER.spec.fingerprint}


def test_a_backup_whose_disk_fails_says_so_and_harms_nothing(bench: Bench):
    for number in range(1, bench.calls("backup") + 1, 2):
        bench.fail_at("backup", number, errno.ENOSPC, lasting=True)
