"""Processes that begin with everything imported: forks of one that did it once.

A fresh interpreter takes seconds of CPU time to import PyTorch and FAISS, a fork milliseconds.
"""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from multiprocessing.connection import Connection, wait
from pathlib import Path

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


@cache
def evomem_command() -> list[str]:
    """Return a command that does what `python -m evomem` does, in a fork: see `tests/command.py`."""
    folder = tempfile.mkdtemp(prefix="evomem")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    place = f"{folder}/commands"
    ready, theirs = FORKS.Pipe(duplex=False)
    FORKS.Process(target=serve_commands, args=(place, theirs), daemon=True).start()
    ready.recv()
    program = str(Path(__file__).with_name("command.py"))
    return [sys.executable, "-S", "-E", program, place]


def serve_commands(place: str, ready: Connection) -> None:
    """Fork for each connection at `place`, until the process of the tests ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for these forks
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        ready.send(None)
        tests = multiprocessing.parent_process()
        assert tests is not None
        while listener in wait([listener, tests.sentinel]):
            connection, _ = listener.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listener.close()
                _serve_command(connection)
                os._exit(0)
            connection.close()


def _serve_command(connection: socket.socket) -> None:
    data, files, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    while not data.endswith(b"\n"):
        data += connection.recv(1 << 20)
    process = os.fork()
    if process == 0:
        connection.close()
        _command(files, *json.loads(data))

    def end_with_the_caller() -> None:
        connection.recv(1)
        os.kill(process, signal.SIGKILL)

    for file in files:
        os.close(file)
    connection.sendall(f"{process}\n".encode())
    threading.Thread(target=end_with_the_caller, daemon=True).start()
    _, status = os.waitpid(process, 0)
    with suppress(BrokenPipeError):  # the caller has ended
        connection.sendall(f"{abs(os.waitstatus_to_exitcode(status))}\n".encode())


def _command(
    files: list[int], arguments: list[str], variables: dict[str, str], folder: str
) -> None:
    code = 1
    try:
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        sys.stdin, sys.stdout, sys.stderr = (open(n, "r" if n == 0 else "w") for n in range(3))
        os.environ.clear()
        os.environ.update(variables)
        os.chdir(folder)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from evomem.cli import main

        code = main(arguments)
        sys.stdout.flush()
    finally:
        os._exit(code)
