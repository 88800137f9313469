"""One trial each: interrupt a plan, then check the database. Shared by tests and the long run."""

from __future__ import annotations

import errno
import random
from dataclasses import dataclass, field
from pathlib import Path

from tests.durability.machine import Job, Machine, Outcome
from tests.durability.plans import PLANS
from tests.durability.power import Call, lose_power, read_record
from tests.durability.reference import base, check, copy

ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS)
SHORT = tuple(name for name in PLANS if name != "stream")


@dataclass
class Bench:
    """Where trials are run."""

    machine: Machine
    folder: Path
    made: dict[str, list[Call]] = field(default_factory=dict)
    checked: int = 0

    def calls(self, plan: str) -> int:
        """Return how many calls the plan makes when nothing goes wrong."""
        return len(self._made(plan))

    def kills(self, plan: str) -> list[tuple[int, bool]]:
        """Return at which calls to kill the process, and whether in the middle, for every outcome.

        A file after half of a call that does not write, or that writes one byte, is as before the next
        one; and to a process that is killed alone, a call that syncs does nothing.
        """
        points, before = [], "w"
        for number, call in enumerate(self._made(plan), start=1):
            if before not in "sx":
                points.append((number, False))
            if call.kind == "w" and len(call.data) > 1:
                points.append((number, True))
            before = call.kind
        return points

    def _made(self, plan: str) -> list[Call]:
        if plan not in self.made:
            record = self.folder / "record"
            record.unlink(missing_ok=True)
            outcome = self.run(Job(plan, self.fresh(plan), record=str(record)))
            assert outcome.done == len(PLANS[plan][1])
            assert outcome.calls > 5, "the calls are not seen: the shim is not at work"
            self.check(plan, outcome.done)
            self.made[plan] = [call for call in read_record(record) if call.kind != "n"]
            assert len(self.made[plan]) == outcome.calls
        return self.made[plan]

    def fresh(self, plan: str) -> str:
        """Return the folder, with the database that the plan begins with."""
        return str(copy(base(plan, self.folder / "base"), self.folder / "hit"))

    def run(self, job: Job) -> Outcome:
        """Run a job on the machine."""
        return self.machine.run(job)

    def check(self, plan: str, done: int, *, lost: bool = False) -> None:
        """Check the database that was hit; every third time, also that the plan can go on."""
        self.checked += 1
        check(plan, self.folder / "hit", done, lost=lost, again=self.checked % 3 == 0)

    # ---------------------------------------------------------------------------------------

    def killed_at(self, plan: str, number: int, *, torn: bool = False) -> Path:
        """Kill the process before, or in the middle of, one call; return the folder as it is."""
        folder = self.fresh(plan)
        assert self.run(Job(plan, folder, "tear" if torn else "kill", number)).killed
        return Path(folder)

    def kill_at(self, plan: str, number: int, *, torn: bool = False) -> None:
        """Kill the process before, or in the middle of, one call."""
        outcome = self.run(Job(plan, self.fresh(plan), "tear" if torn else "kill", number))
        assert outcome.killed
        self.check(plan, outcome.done)

    def kill_after(self, plan: str, seconds: float) -> int:
        """Kill the process at any moment; return how many steps it had done."""
        outcome = self.run(Job(plan, self.fresh(plan), after=seconds))
        self.check(plan, outcome.done)
        return outcome.done

    def fail_at(self, plan: str, number: int, error: int, *, lasting: bool = False) -> list[str]:
        """Let one call, or all from it on, fail; the steps that say so are done again after."""
        action = "fail_on" if lasting else "fail_once"
        outcome = self.run(Job(plan, self.fresh(plan), action, number, error))
        assert outcome.done == len(PLANS[plan][1])
        self.check(plan, outcome.done)
        return outcome.errors

    def recorded(self, plan: str, synchronous: str) -> list[Call]:
        """Run a plan to its end, without closing the database, and return what it did."""
        record = self.folder / "record"
        record.unlink(missing_ok=True)
        options = {"synchronous": synchronous}
        self.run(Job(plan, self.fresh(plan), record=str(record), options=options))
        return list(read_record(record))

    def cut_power(self, plan: str, calls: list[Call], *, lost: bool, rng: random.Random) -> None:
        """Lose power at any call of a record."""
        known = calls[: rng.randint(0, len(calls))]
        before, worked_in = base(plan, self.folder / "base"), self.folder / "hit"
        lose_power(before, worked_in, known, rng)
        done = sum(call.kind == "n" and call.data == b"done" for call in known)
        self.check(plan, done, lost=lost)
