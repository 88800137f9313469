"""Compiled statements, shared by all databases of a process: compiling costs more than running.

`CACHE` holds those that SQLAlchemy runs. A `Statement` is run by the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import ClauseElement, Connection, Dialect, LargeBinary
from sqlalchemy.dialects import registry
from sqlalchemy.util import LRUCache

from evomem_stores.database.connections import driver

Values = Mapping[str, Any]
NO_VALUES: Values = MappingProxyType({})

CACHE: LRUCache[Any, Any] = LRUCache(1000)
"""The value of the execution option `compiled_cache`. Its keys contain the dialect (`Shared`)."""


class Shared:
    """A mixin, placed before SQLAlchemy's class: dialects that compile to the same SQL are equal."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shared) and self._settings() == other._settings()

    def __hash__(self) -> int:
        return hash(type(self))

    def _settings(self) -> tuple[object, ...]:
        """Return what the SQL depends on; `server_version_info` is set when the dialect connects."""
        return type(self), getattr(self, "server_version_info", None)


def register(dialect: type[Shared], name: str) -> str:
    """Register a dialect with SQLAlchemy; return its name in URLs."""
    registry.register(f"{name}.evomem", dialect.__module__, dialect.__name__)
    return f"{name}+evomem"


class Statement:
    """A statement with named parameters that the driver runs; its rows are plain tuples.

    For the statements of frequent calls: SQLAlchemy takes several times as long as SQLite to run a
    statement that reads or writes one row. Columns have the driver's types, so use it only with
    integers, texts and bytes.
    """

    def __init__(self, query: ClauseElement, suffix: str = "") -> None:
        """Take a query; an `Insert` without values takes a value for every column.

        `suffix` is SQL that follows it, the same in all dialects.
        """
        self._query = query
        self._suffix = suffix
        self._compiled: dict[Dialect, _Compiled] = {}

    def rows(self, connection: Connection, values: Values = NO_VALUES) -> list[tuple[Any, ...]]:
        """Return all rows."""
        rows: list[tuple[Any, ...]] = self._run(connection, values).fetchall()
        return rows

    def row(self, connection: Connection, values: Values = NO_VALUES) -> tuple[Any, ...] | None:
        """Return the first row, None if there is none."""
        cursor = self._run(connection, values)
        row: tuple[Any, ...] | None = cursor.fetchone()
        cursor.close()
        return row

    def value(self, connection: Connection, values: Values = NO_VALUES) -> Any:
        """Return the first column of the first row, None if there is no row."""
        row = self.row(connection, values)
        return None if row is None else row[0]

    def run(self, connection: Connection, values: Values = NO_VALUES) -> None:
        """Run a statement that returns no rows."""
        self._run(connection, values)

    def run_many(self, connection: Connection, values: Iterable[Values]) -> int:
        """Run a statement that returns no rows once for each of `values`; return how many it wrote."""
        compiled = self._for(connection.dialect)
        cursor = driver(connection).cursor()
        cursor.executemany(compiled.sql, [compiled.arguments(row) for row in values])
        count: int = cursor.rowcount
        return count

    def _run(self, connection: Connection, values: Values) -> Any:
        compiled = self._for(connection.dialect)
        return driver(connection).execute(compiled.sql, compiled.arguments(values))

    def _for(self, dialect: Dialect) -> _Compiled:
        compiled = self._compiled.get(dialect)
        if compiled is None:
            compiled = self._compiled[dialect] = _Compiled.of(self._query, self._suffix, dialect)
        return compiled


class _Compiled(NamedTuple):
    """A statement in the SQL of one dialect."""

    sql: str
    by_position: Callable[[Values], Sequence[Any]] | None
    """Returns the values in the order of the parameters, if the driver takes them by position."""
    constants: dict[str, Any]
    """The values of parameters that are literals in the query."""
    converters: list[tuple[str, Callable[[Any], Any]]]
    """By parameter: the conversion to the driver's type, if there is one."""

    @classmethod
    def of(cls, query: ClauseElement, suffix: str, dialect: Dialect) -> _Compiled:
        compiled: Any = query.compile(dialect=dialect)
        parameters = {name: parameter for parameter, name in compiled.bind_names.items()}
        converters = (
            (name, parameter.type.dialect_impl(dialect).bind_processor(dialect))
            for name, parameter in parameters.items()
            if not isinstance(parameter.type, LargeBinary)  # drivers take bytes as they are
        )
        return cls(
            compiled.string + suffix,
            _getter(compiled.positiontup),
            {name: value.value for name, value in parameters.items() if not value.required},
            [(name, converter) for name, converter in converters if converter],
        )

    def arguments(self, values: Values) -> Sequence[Any] | Values:
        """Return the values as the driver takes them."""
        if self.constants or self.converters:
            named = {**self.constants, **values}
            for name, convert in self.converters:
                named[name] = convert(named[name])
            values = named
        return values if self.by_position is None else self.by_position(values)


def _getter(names: list[str] | None) -> Callable[[Values], Sequence[Any]] | None:
    if names is None:
        return None
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: [values[name] for name in names]
