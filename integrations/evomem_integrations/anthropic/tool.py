"""The memory tool of Anthropic's API over a memory, for the SDK's tool runner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from anthropic.lib.tools import BetaAbstractMemoryTool, BetaAsyncAbstractMemoryTool, ToolError

from evomem.adapter import counts
from evomem.memory import Memory
from evomem.records import Record
from evomem_integrations.anthropic.files import Files
from evomem_integrations.anthropic.paths import ROOT, normal

if TYPE_CHECKING:
    from anthropic.types.beta import (
        BetaMemoryTool20250818CreateCommand,
        BetaMemoryTool20250818DeleteCommand,
        BetaMemoryTool20250818InsertCommand,
        BetaMemoryTool20250818RenameCommand,
        BetaMemoryTool20250818StrReplaceCommand,
        BetaMemoryTool20250818ViewCommand,
    )

logger = logging.getLogger(__name__)
_T = TypeVar("_T")
_UNITS = "BKMG"
_LINE_NUMBER_WIDTH = 6  # as in the API's documentation


class EvoMemMemoryTool(BetaAbstractMemoryTool):
    """Keeps the files of the memory tool in a memory, for `client.beta.messages.tool_runner`.

    Each file is a turn, with its path as speaker and session. A new version replaces the previous
    one; `versions` returns all of them, and `Memory.search` finds the contents of files.
    """

    def __init__(
        self,
        memory: Memory,
        *,
        turn_source: str | None = None,
        purge: bool = False,
        strict: bool = False,
    ) -> None:
        """Choose the memory.

        Args:
            memory: The user's memory. Turns that are not files are not changed.
            turn_source: The source of the turns that are written (`Turn.source`).
            purge: Whether deleting a file purges its text and its influence (`Memory.purge`).
            strict: Whether errors of the memory are raised. If not, they are logged and counted
                (`evomem.adapter.counts`), and the model is told that the command failed.
        """
        super().__init__()
        self._files = Files(memory, turn_source, purge)
        self._strict = strict

    def view(self, command: BetaMemoryTool20250818ViewCommand) -> str:
        """Return the lines of a file, or the listing of a directory, two levels deep."""
        return self._reading(lambda: self._view(normal(command.path), command.view_range))

    def create(self, command: BetaMemoryTool20250818CreateCommand) -> str:
        """Write a new file."""
        path = normal(command.path)

        def new(stored: str | None) -> str:
            if stored is not None:
                raise ToolError(f"File {command.path} already exists")
            return command.file_text

        def create() -> str:
            self._check_can_write(path, command.path)
            self._files.change(path, new)
            return f"File created successfully at: {command.path}"

        return self._writing(create)

    def str_replace(self, command: BetaMemoryTool20250818StrReplaceCommand) -> str:
        """Replace a text that occurs once in a file."""
        after, place = "", 0

        def new(stored: str | None) -> str:
            nonlocal after, place
            text = self._text_or_error(stored, command.path)
            lines = _lines_with(text, command.old_str)
            if not lines:
                raise ToolError(
                    f"No replacement was performed, old_str `{command.old_str}` did not appear "
                    f"verbatim in {command.path}."
                )
            if len(lines) > 1:
                raise ToolError(
                    f"No replacement was performed. Multiple occurrences of old_str "
                    f"`{command.old_str}` in lines: {', '.join(map(str, lines))}. Please ensure it "
                    "is unique"
                )
            after = text.replace(command.old_str, command.new_str)
            place = lines[0]
            return after

        def replace() -> str:
            self._files.change(normal(command.path), new)
            return (
                "The memory file has been edited. Here is the snippet showing the change (with "
                f"line numbers):\n{_numbered(after, max(1, place - 2), place + 2)}"
            )

        return self._writing(replace)

    def insert(self, command: BetaMemoryTool20250818InsertCommand) -> str:
        """Insert a text after a line of a file; 0 is its beginning."""

        def new(stored: str | None) -> str:
            lines = self._text_or_error(stored, command.path).split("\n")
            if lines[-1] == "":
                lines.pop()
            if not 0 <= command.insert_line <= len(lines):
                raise ToolError(
                    f"Invalid `insert_line` parameter: {command.insert_line}. It should be within "
                    f"the range [0, {len(lines)}]."
                )
            lines.insert(command.insert_line, command.insert_text.rstrip("\n"))
            text = "\n".join(lines)
            return text if text.endswith("\n") else f"{text}\n"

        def insert() -> str:
            self._files.change(normal(command.path), new)
            return f"The file {command.path} has been edited."

        return self._writing(insert)

    def delete(self, command: BetaMemoryTool20250818DeleteCommand) -> str:
        """Delete a file, or a directory with its contents."""
        path = normal(command.path)
        if path == ROOT:
            raise ToolError(f"Cannot delete the {ROOT} directory itself")

        def delete() -> str:
            if self._files.kind(path) is None:
                raise ToolError(f"The path {command.path} does not exist")
            self._files.remove(path)
            return f"Successfully deleted {command.path}"

        return self._writing(delete)

    def rename(self, command: BetaMemoryTool20250818RenameCommand) -> str:
        """Move a file, or a directory with its contents."""
        old, new = normal(command.old_path), normal(command.new_path)
        if old == ROOT:
            raise ToolError(f"Cannot rename the {ROOT} directory itself")

        def rename() -> str:
            if self._files.kind(new) is not None:
                raise ToolError(f"The destination {command.new_path} already exists")
            if self._files.kind(old) is None:
                raise ToolError(f"The path {command.old_path} does not exist")
            if new.startswith(f"{old}/"):
                raise ToolError(f"Cannot rename {command.old_path} into itself")
            self._check_can_write(new, command.new_path)
            self._files.move(old, new)
            return f"Successfully renamed {command.old_path} to {command.new_path}"

        return self._writing(rename)

    def clear_all_memory(self) -> str:
        """Delete all files."""

        def clear() -> str:
            self._files.remove(ROOT)
            return "All memory cleared"

        return self._writing(clear)

    def versions(self, path: str) -> list[Record]:
        """Return every version of a file, oldest first, including those under earlier paths.

        The list is empty if the file does not exist or was deleted.
        """
        return self._files.versions(normal(path))

    # ---------------------------------------------------------------------------------------

    def _view(self, path: str, lines: list[int] | None) -> str:
        text = self._files.text(path)
        if text is not None:
            first, last = (max(1, lines[0]), lines[1]) if lines and len(lines) == 2 else (1, -1)
            return (
                f"Here's the content of {path} with line numbers:\n{_numbered(text, first, last)}"
            )
        if self._files.kind(path) is None:
            raise ToolError(f"The path {path} does not exist. Please provide a valid path.")
        header = (
            f"Here're the files and directories up to 2 levels deep in {path}, excluding hidden "
            "items:"
        )
        return "\n".join([header, *(f"{_size(n)}\t{entry}" for n, entry in self._files.tree(path))])

    def _check_can_write(self, path: str, requested: str) -> None:
        if above := self._files.occupied(path):
            raise ToolError(f"Cannot write {requested}: {above} is a file, not a directory")
        if self._files.kind(path) == "directory":
            raise ToolError(f"File {requested} already exists")

    def _text_or_error(self, text: str | None, requested: str) -> str:
        if text is not None:
            return text
        if self._files.kind(normal(requested)) == "directory":
            raise ToolError(f"The path {requested} is not a file.")
        raise ToolError(f"The path {requested} does not exist. Please provide a valid path.")

    def _reading(self, call: Callable[[], _T]) -> _T:
        return self._guarded(call, "failed_reads")

    def _writing(self, call: Callable[[], _T]) -> _T:
        return self._guarded(call, "failed_writes")

    def _guarded(self, call: Callable[[], _T], count: str) -> _T:
        try:
            return call()
        except ToolError:
            raise
        except Exception as error:
            if self._strict:
                raise
            counts.add(count)
            logger.warning("A command of the memory tool failed (%s)", error, exc_info=error)
            raise ToolError(
                "The memory cannot be reached at present. Continue without it."
            ) from error


class EvoMemAsyncMemoryTool(BetaAsyncAbstractMemoryTool):
    """`EvoMemMemoryTool` for an asynchronous client: no command blocks the event loop."""

    def __init__(
        self,
        memory: Memory,
        *,
        turn_source: str | None = None,
        purge: bool = False,
        strict: bool = False,
    ) -> None:
        """Choose the memory; see `EvoMemMemoryTool`."""
        super().__init__()
        self._tool = EvoMemMemoryTool(memory, turn_source=turn_source, purge=purge, strict=strict)

    async def view(self, command: BetaMemoryTool20250818ViewCommand) -> str:
        """See `EvoMemMemoryTool.view`."""
        return await asyncio.to_thread(self._tool.view, command)

    async def create(self, command: BetaMemoryTool20250818CreateCommand) -> str:
        """See `EvoMemMemoryTool.create`."""
        return await asyncio.to_thread(self._tool.create, command)

    async def str_replace(self, command: BetaMemoryTool20250818StrReplaceCommand) -> str:
        """See `EvoMemMemoryTool.str_replace`."""
        return await asyncio.to_thread(self._tool.str_replace, command)

    async def insert(self, command: BetaMemoryTool20250818InsertCommand) -> str:
        """See `EvoMemMemoryTool.insert`."""
        return await asyncio.to_thread(self._tool.insert, command)

    async def delete(self, command: BetaMemoryTool20250818DeleteCommand) -> str:
        """See `EvoMemMemoryTool.delete`."""
        return await asyncio.to_thread(self._tool.delete, command)

    async def rename(self, command: BetaMemoryTool20250818RenameCommand) -> str:
        """See `EvoMemMemoryTool.rename`."""
        return await asyncio.to_thread(self._tool.rename, command)

    async def clear_all_memory(self) -> str:
        """See `EvoMemMemoryTool.clear_all_memory`."""
        return await asyncio.to_thread(self._tool.clear_all_memory)

    async def versions(self, path: str) -> list[Record]:
        """See `EvoMemMemoryTool.versions`."""
        return await asyncio.to_thread(self._tool.versions, path)


def _lines_with(text: str, part: str) -> list[int]:
    """Return the numbers of the lines in which `part` begins, counted from 1."""
    lines, start = [], text.find(part)
    while start >= 0:
        lines.append(text[:start].count("\n") + 1)
        start = text.find(part, start + 1)
    return lines


def _numbered(text: str, first: int, last: int) -> str:
    lines = text.split("\n")
    selected = lines[first - 1 : None if last == -1 else last]
    return "\n".join(
        f"{first + n:>{_LINE_NUMBER_WIDTH}}\t{line}" for n, line in enumerate(selected)
    )


def _size(count: int) -> str:
    power = min(max(count.bit_length() - 1, 0) // 10, len(_UNITS) - 1)
    size = count / 1024**power
    return f"{int(size) if size == int(size) else f'{size:.1f}'}{_UNITS[power]}"
