"""The test of killed workers, as large as you like: python -m tests.fleet postgresql://… --memories 64."""

from __future__ import annotations

import argparse
import sys

from tests.fleet.killing import Fleet, check

parser = argparse.ArgumentParser(prog="python -m tests.fleet")
parser.add_argument("location", help="of a database that is not there yet, with ?schema=")
parser.add_argument("--memories", type=int, default=64)
parser.add_argument("--turns", type=int, default=8)
parser.add_argument("--kills", type=int, default=16)
parser.add_argument("--seed", type=int, default=1)

if __name__ == "__main__":
    options = parser.parse_args()
    fleet = Fleet(options.location, options.memories, options.turns, options.seed)
    fleet.run(options.kills, fleet.kill)
    check(fleet)
    sys.stdout.write(f"turns read in vain: {sum(fleet.vain.values())}\n")
    sys.stdout.write(f"seconds to take over: {[round(each, 3) for each in fleet.takeovers]}\n")
