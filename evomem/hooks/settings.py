"""Adds hooks to an agent's settings and removes them, without other changes."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from evomem.errors import InputError, StoreError
from evomem.hooks import json_text
from evomem.hooks.agents import Agent

_OURS = re.compile(r"""\bevomem['"]? hooks run """)
BACKUP = ".before-evomem"
"""The suffix of the copy of the original settings, which is kept until the hooks are removed."""


def with_hooks(text: str, agent: Agent, command: str) -> str:
    """Return settings with our hooks, replacing any that exist.

    Raises:
        InputError: The settings do not have the form that the agent documents.
    """
    groups = {name: _group(command, agent, name) for name in agent.events}
    if _ours(text) == groups:
        return text
    text = without_hooks(text)
    if not text.strip():
        return (
            json.dumps({"hooks": {name: [group] for name, group in groups.items()}}, indent=2)
            + "\n"
        )
    for name, group in groups.items():
        root = text.index("{")
        hooks = json_text.child(text, root, "hooks")
        if hooks is None:
            text = json_text.append(text, root, {name: [group]}, "hooks")
            continue
        event = json_text.child(text, hooks.value, name)
        if event is None:
            text = json_text.append(text, hooks.value, [group], name)
        else:
            text = json_text.append(text, event.value, group)
    return text


def without_hooks(text: str) -> str:
    """Return settings without our hooks, and without lists that are empty afterwards.

    Raises:
        InputError: The settings do not have the form that the agent documents.
    """
    _check(text)
    while (place := _find(text)) is not None:
        start, number, event = place
        text = json_text.remove(text, start, number)
        text = _without_empty(text, event)
    return text


def read(path: Path) -> str:
    """Return the text of settings, with its line ends; "" if there is no file.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}; nothing was changed") from error


def install(path: Path, before: str, after: str) -> None:
    """Write settings with our hooks, and keep a copy of the original next to them.

    Raises:
        StoreError: They cannot be written.
    """
    path = path.resolve()  # settings may be a link into a folder of dotfiles
    if before and not _ours(before):
        _write(path.with_name(path.name + BACKUP), before, like=path)
    _write(path, after, like=path)


def uninstall(path: Path, after: str) -> None:
    """Write settings without our hooks; restore the original if nothing else has changed.

    Removes a file that contained only our hooks and did not exist before.

    Raises:
        StoreError: They cannot be written.
    """
    path = path.resolve()
    backup = path.with_name(path.name + BACKUP)
    before = read(backup)
    if before and _same(before, after):
        after = before
    if not before and json.loads(after) == {}:
        path.unlink(missing_ok=True)
    else:
        _write(path, after, like=path)
    backup.unlink(missing_ok=True)


def _same(before: str, after: str) -> bool:
    """Return whether two settings are equal, apart from empty lists and objects."""

    def bare(text: str) -> Any:
        value = json.loads(text) if text.strip() else {}
        hooks = {
            name: groups for name, groups in (value.pop("hooks", None) or {}).items() if groups
        }
        return value, hooks

    try:
        return bool(bare(before) == bare(after))
    except (ValueError, AttributeError):
        return False


def _group(command: str, agent: Agent, name: str) -> dict[str, Any]:
    event = agent.events[name]
    handler = {"type": "command", "command": command, "timeout": event.timeout}
    matcher = {} if event.matcher is None else {"matcher": event.matcher}
    return {**matcher, "hooks": [handler]}


def _check(text: str) -> None:
    """Raise `InputError` unless the text is empty, or valid settings of an agent."""
    if not text.strip():
        return
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"the settings are not plain JSON ({error}); repair them first, nothing was changed"
        ) from error
    hooks = value.get("hooks", {}) if isinstance(value, dict) else None
    if not isinstance(hooks, dict) or not all(isinstance(hook, list) for hook in hooks.values()):
        raise InputError(
            "the settings are not an object whose 'hooks' has a list for each event; repair them "
            "first, nothing was changed"
        )


def _ours(text: str) -> dict[str, Any]:
    """Return our groups by event; the last one of each event."""
    _check(text)
    hooks = json.loads(text).get("hooks", {}) if text.strip() else {}
    return {name: group for name, groups in hooks.items() for group in groups if _has_ours(group)}


def _has_ours(group: object) -> bool:
    handlers = group.get("hooks") if isinstance(group, Mapping) else None
    return isinstance(handlers, list) and any(_is_ours(handler) for handler in handlers)


def _is_ours(handler: object) -> bool:
    command = handler.get("command") if isinstance(handler, Mapping) else None
    return isinstance(command, str) and _OURS.search(command) is not None


def _find(text: str) -> tuple[int, int, str] | None:
    """Return the position: start of the list with our first hook, its index there, and its event."""
    hooks = json_text.child(text, text.index("{"), "hooks") if text.strip() else None
    if hooks is None:
        return None
    for event in json_text.children(text, hooks.value):
        for number, group in enumerate(json_text.children(text, event.value)):
            value = json.loads(text[group.value : group.end])
            if not _has_ours(value):
                continue
            if all(_is_ours(handler) for handler in value["hooks"]):
                return event.value, number, str(event.key)
            handlers = json_text.child(text, group.value, "hooks")
            assert handlers is not None
            first = next(n for n, handler in enumerate(value["hooks"]) if _is_ours(handler))
            return handlers.value, first, str(event.key)
    return None


def _without_empty(text: str, event: str) -> str:
    """Return settings without an event that has no groups, and without `hooks` if it is then empty."""
    for keys in (("hooks", event), ("hooks",)):
        start = text.index("{")
        for key in keys[:-1]:
            inner = json_text.child(text, start, key)
            assert inner is not None
            start = inner.value
        inside = json_text.children(text, start)
        number = max(n for n, span in enumerate(inside) if span.key == keys[-1])
        if json_text.children(text, inside[number].value):
            return text
        text = json_text.remove(text, start, number)
    return text


def _write(path: Path, text: str, *, like: Path) -> None:
    """Write a file completely or not at all, with the permissions of `like`."""
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with os.fdopen(file, "wb") as opened:
            opened.write(text.encode("utf-8"))
        if like.exists():
            shutil.copymode(like, temporary)
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(temporary)
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from error
