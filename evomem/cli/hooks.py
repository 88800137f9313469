"""`evomem hooks`: store the sessions of a coding agent, and recall them in the next session."""

from __future__ import annotations

import difflib
import os
import shlex
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.text import Text

import evomem
from evomem.cli.agents_arguments import AGENTS_DB, AGENTS_FOLDER
from evomem.cli.opening import labels_of, make_agents_folder
from evomem.cli.screen import Screen, plain
from evomem.errors import InputError, NotFound
from evomem.hooks import events, settings
from evomem.hooks.agents import AGENTS, Agent

LOG = "hooks.log"  # in the folder of the agents' database
MAX_LOG = 1_000_000  # bytes


def hooks(args: Namespace, screen: Screen) -> int:
    """Run the action."""
    agent = AGENTS[args.agent]
    if args.files and args.action != "sweep":
        raise InputError(f"{args.action} takes no files")
    if args.action == "run":
        return _run(agent, args, screen)
    if args.action == "sweep":
        return _sweep(agent, args, screen)
    return _edit(agent, args, screen)


def _edit(agent: Agent, args: Namespace, screen: Screen) -> int:
    """Add the hooks to the settings, or remove them."""
    path = Path(args.settings).expanduser() if args.settings else agent.settings
    before = settings.read(path)
    adding = args.action == "install"
    try:
        if adding:
            after = settings.with_hooks(before, agent, _command(agent, args))
        else:
            after = settings.without_hooks(before)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    values = {"agent": agent.name, "settings": str(path), "changed": after != before}
    if after == before:
        state = "there already" if adding else "not there"
        screen.result(values, Text(plain(f"{path}: the hooks are {state}; nothing was changed")))
        return 0
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), str(path), f"{path} (new)", lineterm="", n=2
    )
    screen.note("\n".join(lines))
    if not (args.yes or _agreed()):
        raise InputError("nothing was changed: answer y, or give --yes")
    if adding:
        settings.install(path, before, after)
    else:
        settings.uninstall(path, after)
    line = f"{'wrote' if adding else 'restored'} {path}"
    screen.result(values, Text(plain(line)))
    if adding:
        _advise(agent, screen)
    return 0


def _advise(agent: Agent, screen: Screen) -> None:
    if agent.name == "codex":
        screen.note("Codex runs new hooks once you have reviewed and trusted them: /hooks")
    screen.note(
        f"the next session's start imports the sessions on disk; evomem hooks sweep {agent.name} "
        "does so at once"
    )


def _agreed() -> bool:
    if not sys.stdin.isatty():
        return False
    sys.stderr.write("write this? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _command(agent: Agent, args: Namespace) -> str:
    """Return the command line that the agent calls, for a shell of the system."""
    words = [sys.executable, "-m", "evomem", "hooks", "run", agent.name, *_options(args)]
    return shlex.join(words) if os.name == "posix" else subprocess.list2cmdline(words)


def _options(args: Namespace) -> list[str]:
    """Return the options by which another process uses the same memory."""
    if "://" in args.db:
        raise InputError(
            f"{args.db.partition('://')[0]}://... may contain a password, which does not belong in "
            "an agent's settings: hooks take a database file"
        )
    options = ["--db", str(Path(args.db).expanduser().absolute())]
    for label in args.memory or ():
        options += ["--memory", label]
    for name in ("encoder", "device"):
        if value := getattr(args, name):
            options += [f"--{name}", value]
    return options


def _sweep(agent: Agent, args: Namespace, screen: Screen) -> int:
    """Import sessions."""
    from evomem.hooks.sessions import Seen, capture, sweep
    from evomem.importing import Imported

    labels, done = labels_of(args), Imported()
    make_agents_folder(args.db)
    with (
        evomem.open(args.db, args.encoder, device=args.device) as db,
        screen.progress() as progress,
    ):
        memory = db.memory(*labels)
        if args.files:
            for name in args.files:
                done += capture(memory, agent, Path(name))
        else:
            seen = Seen(Path(AGENTS_FOLDER).expanduser(), args.db, labels)
            done = sweep(memory, agent, seen, progress=lambda *count: progress("reading", *count))
    values = {"agent": agent.name, "new": done.new, "replaced": done.replaced, "known": done.known}
    line = f"{done.new} new turns in {'/'.join(labels)} ({done.known} were there already)"
    screen.result(values, Text(plain(line)))
    return 0


def _run(agent: Agent, args: Namespace, screen: Screen) -> int:
    """Answer an agent's event at once, since the agent waits; long work runs in another process."""
    try:
        event = events.parse(sys.stdin.read())
        transcript = event.get("transcript_path")
        if event["hook_event_name"] == events.START:
            if event.get("source") == "startup":
                _start_sweep(agent, args, [])
            sys.stdout.write(_recall(args, event))
        elif isinstance(transcript, str) and transcript:
            _start_sweep(agent, args, [transcript])
    except Exception as error:  # 2 would mean to the agent: do not continue
        screen.error(f"{type(error).__name__}: {error}")
        return 1
    return 0


def _recall(args: Namespace, event: dict[str, Any]) -> str:
    try:
        with evomem.open(args.db, create=False) as db:
            return events.context(db.memory(*labels_of(args)), event)
    except NotFound:  # nothing has been captured yet
        return ""


def _start_sweep(agent: Agent, args: Namespace, files: list[str]) -> None:
    """Start a sweep in a separate process, which outlives the agent."""
    words = [sys.executable, "-m", "evomem", "hooks", "sweep", agent.name, *files, *_options(args)]
    with _log() as log:
        subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )


@contextmanager
def _log() -> Iterator[Any]:
    """Open the log file for failed sweeps; it contains no texts of turns."""
    make_agents_folder(AGENTS_DB)
    path = Path(AGENTS_FOLDER).expanduser() / LOG
    mode = "wb" if path.exists() and path.stat().st_size > MAX_LOG else "ab"
    with path.open(mode) as file:
        yield file
