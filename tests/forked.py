"""Runs a function in a forked child, as a prefork server does: no import, no new interpreter."""

from __future__ import annotations

import json
import os
import signal
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no forks")

SECONDS = 30  # after which a child that hangs is killed


def fork(call: Callable[[], Any]) -> Callable[[], Any]:
    """Fork; the child makes the call and exits. Returns what waits for it and gives its
    result, as JSON has it.

    A child that raises, hangs or is killed makes the parent raise AssertionError.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # threads are what these tests are about
        process = os.fork()
    if not process:
        status = 1
        try:
            os.close(reading)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(SECONDS)
            answer = json.dumps(call()).encode()
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(answer)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)  # nothing of pytest's runs here
    os.close(writing)

    def wait() -> Any:
        with os.fdopen(reading, "rb") as pipe:
            answer = pipe.read()
        _, status = os.waitpid(process, 0)
        assert status == 0, f"the child ended with {os.waitstatus_to_exitcode(status)}"
        return json.loads(answer)

    return wait
