"""A process with everything imported whose children run plans, fail and are killed.

A child is a fork of it, so that a kill costs milliseconds. Faults come from `shim.c`.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from evomem.errors import EvomemError
from tests.conftest import ROOT
from tests.durability.plans import PLANS, open_database

SHIM = Path(__file__).with_name("shim.c")
ACTIONS = ("nothing", "kill", "tear", "fail_once", "fail_on")


@dataclass
class Job:
    """What a child is to do, and what goes wrong meanwhile."""

    plan: str
    folder: str
    action: str = "nothing"
    at: int = 0
    """The call that is hit, counted from 1."""
    error: int = 0
    """The errno of a call that fails."""
    after: float | None = None
    """Seconds from its first step until the child is killed from outside."""
    record: str = ""
    """A file for the record of every call."""
    skews: list[int] = field(default_factory=list)
    """How far the clock is off in each step, in seconds; the last for all further ones."""
    options: dict[str, Any] = field(default_factory=dict)
    """For `open_database`."""
    close: bool = True
    """Whether the database is closed at the end, or left as it is."""


@dataclass
class Outcome:
    """What became of it."""

    killed: bool
    done: int
    """Steps that were acknowledged."""
    calls: int
    """Calls that were counted; 0 if it was killed."""
    errors: list[str]
    """What steps raised, each before it was done again without the fault."""


@functools.cache
def shim() -> Path:
    """Compile the shim once; skip where there is no compiler or no LD_PRELOAD."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not (compiler and sys.platform == "linux"):
        pytest.skip("faults are injected by a shim that needs Linux and a C compiler")
    name = hashlib.blake2b(SHIM.read_bytes(), digest_size=8).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"evomem-shim-{os.getuid()}-{name}"
    built = folder / "shim.so"
    if not built.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        fresh = folder / f"{os.getpid()}.so"
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(fresh), str(SHIM), "-ldl"]
        subprocess.run(command, check=True)
        fresh.replace(built)
    return built


class Machine:
    """Use it as a context manager; `run` jobs on it one after another."""

    def __enter__(self) -> Machine:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.durability.machine"],
            cwd=ROOT,
            env={**os.environ, "LD_PRELOAD": str(shim())},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def run(self, job: Job) -> Outcome:
        """Run a job; a child that ends otherwise than by a planned kill is an error."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(asdict(job)) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        lines: list[str] = answer["said"]
        ended = answer["signal"] or answer["code"]
        fatal = [line for line in lines if line.startswith("fatal")]
        assert ended in (0, signal.SIGKILL), f"{job} ended with {ended}: {fatal or lines}"
        return Outcome(
            killed=ended == signal.SIGKILL,
            done=lines.count("done"),
            calls=next((int(line[6:]) for line in lines if line.startswith("calls ")), 0),
            errors=[line[6:] for line in lines if line.startswith("error ")],
        )


def main() -> None:
    """Serve jobs, one JSON document a line."""
    import evomem_stores  # noqa: F401  # with FAISS: children must not have to import it
    from tests.durability import reference

    warnings.simplefilter("ignore")  # that index files cannot be kept is said as a warning
    reference.warm_up()
    for line in sys.stdin:
        job = Job(**json.loads(line))
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.close(read)
            os._exit(_child(job, write))
        os.close(write)
        if job.after is not None:
            select.select([read], [], [])  # however busy the machine is, it is killed at work
            time.sleep(job.after)
            os.kill(child, signal.SIGKILL)
        with os.fdopen(read, "rb") as output:
            lines = output.read().decode().splitlines()
        _, status = os.waitpid(child, 0)
        ended = {
            "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
            "code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0,
        }
        sys.stdout.write(json.dumps({"said": lines, **ended}) + "\n")
        sys.stdout.flush()


def _child(job: Job, out: int) -> int:
    library = ctypes.CDLL(None)

    def say(text: str) -> None:
        library.shim_note(text.encode())
        os.write(out, (text + "\n").encode())

    def unfailing(call: Any) -> Any:
        """Do it; after a fault that was said as an error of ours, do it again without the fault."""
        try:
            return call()
        except EvomemError as error:
            say(f"error {type(error).__name__}: {error}".replace("\n", " "))
            library.shim_disarm()
            return call()

    record = os.open(job.record, os.O_CREAT | os.O_WRONLY) if job.record else -1
    skews = iter(job.skews)
    try:
        library.shim_arm(
            job.folder.encode(),
            ACTIONS.index(job.action),
            ctypes.c_long(job.at),
            job.error,
            record,
        )
        db = unfailing(lambda: open_database(Path(job.folder) / "a.db", **job.options))
        for step in PLANS[job.plan][1]:
            if (skew := next(skews, None)) is not None:
                library.shim_skew(ctypes.c_long(skew))
            unfailing(functools.partial(step, db))
            say("done")
        if job.close:
            unfailing(db.close)
        say(f"calls {library.shim_calls()}")
        return 0
    except BaseException:
        say("fatal " + traceback.format_exc().replace("\n", " | "))
        return 1


if __name__ == "__main__":
    main()
