"""Processes that begin with everything imported: forks of one that did it once.

A fresh interpreter takes seconds of CPU time to import PyTorch and FAISS, a fork milliseconds.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection

# Each test process has one server, started at the first use, which forks and does nothing else.
FORKS = multiprocessing.get_context("forkserver")
SERVICE = ["evomem.service.running", "evomem.service.app", "evomem.service.mcp.http"]
FORKS.set_forkserver_preload(["tests.stores.helpers", "tests.stores.other_process", *SERVICE])


class Forked:
    """A process that makes one call; what the call prints is read from `stdout`."""

    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        reader, writer = FORKS.Pipe(duplex=False)
        self._process = FORKS.Process(target=_run, args=(writer, call, arguments))
        self._process.start()
        writer.close()
        self.stdout = os.fdopen(os.dup(reader.fileno()))
        reader.close()

    def kill(self) -> str:
        """End the process at once, in the middle of everything; return what it had printed."""
        self._process.kill()
        return self._end()

    def finish(self) -> str:
        """Wait until the call returns; return what it printed."""
        output = self._end()
        assert self._process.exitcode == 0, output
        return output

    def _end(self) -> str:
        with self.stdout:
            output = self.stdout.read()
        self._process.join()
        return output


def _run(out: Connection, call: Callable[..., object], arguments: tuple[object, ...]) -> None:
    sys.stdout = os.fdopen(out.fileno(), "w")
    call(*arguments)
