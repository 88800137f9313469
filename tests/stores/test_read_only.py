"""A database that cannot be written can be read, as it is now; writing is refused at once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.stores.reader import TEXTS

NAMESPACE = ["unshare", "--map-root-user", "--mount"]
REASON = {
    "mount": "on a read-only file system",
    "permissions": "a file that this user may not write",
}


@pytest.fixture(scope="module", params=["mount", "permissions"])
def way(request):
    """What keeps the reader from writing: root is not kept by permissions, nor others by mounts."""
    if request.param == "mount":
        unshare = shutil.which("unshare")
        if not unshare or subprocess.run([*NAMESPACE, "true"], check=False).returncode:
            pytest.skip("this machine lets nobody mount")
    return request.param


@pytest.fixture(scope="module")
def seen(way):
    """What `tests.stores.reader` sees."""
    folder = Path(tempfile.mkdtemp())  # pytest's own cannot be entered by other users
    folder.chmod(0o755)
    command = [sys.executable, "-m", "tests.stores.reader", way, folder]
    done = subprocess.run(
        [*(NAMESPACE if way == "mount" else []), *command],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    shutil.rmtree(folder, ignore_errors=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_everything_that_reads_works_and_changes_nothing(seen):
    clean = seen["clean"]
    assert set(clean["found"].values()) == {"I moved to Oslo."}
    assert (clean["history"], clean["past"], clean["stats"], clean["exported"]) == (3, 1, 3, 3)
    assert clean["faults"] == []
    assert clean["backup"] == clean["restored"] == TEXTS
    assert clean["unchanged"]


def test_everything_that_writes_is_refused_before_the_encoder_is_loaded(seen, way):
    refused = seen["refused"]
    assert refused.pop("encoder") == "None"
    for name, says in refused.items():
        assert says.startswith("StoreError: "), name
        assert f"clean.db is {REASON[way]}: it can be searched" in says, name


def test_the_doctor_says_why_nothing_can_be_written(seen, way):
    assert REASON[way] in seen["clean"]["doctor"]["writing"]
    if way == "mount":
        assert "mounted read-only" in seen["clean"]["doctor"]["disk"]


def test_writes_of_another_process_are_visible_at_once(seen):
    if seen["live"] is None:
        pytest.skip("there is no other user who could write")
    live = seen["live"]
    assert live["before"] == 3
    assert live["meanwhile"].startswith("HeadMoved: ")
    assert live["while it is open"] == "I moved to Rome."
    assert live["newer"] == "I moved to Bonn."
    assert live["when it was closed"] == live["reopened"] == 5


def test_turns_that_a_killed_process_left_in_the_log_are_read(seen):
    assert seen["killed"] == [*TEXTS, "I moved to Rome."]


def test_turns_that_cannot_be_read_are_never_left_out_silently(seen):
    assert "copied.db-shm is missing; copy both files" in seen["copied"]
    assert "has to be rolled back with interrupted.db-journal" in seen["interrupted"]


def test_tables_that_would_have_to_be_changed_first_are_refused(seen, way):
    assert f"old.db is {REASON[way]}, but has to be upgraded before" in seen["old"]


def test_a_database_in_a_read_only_folder_cannot_be_created(seen, way):
    assert REASON[way] in seen["empty"]
    assert seen["new"].startswith("StoreError: ")
    assert "choose a file in an existing, writable folder" in seen["new"]
