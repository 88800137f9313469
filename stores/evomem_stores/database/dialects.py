"""SQL that differs between SQLite and PostgreSQL: constructs compiled for each.

The other differences are in `sqlite` and `postgresql` (connections, transactions, errors) and in
`migrations` (tables).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    Insert,
    Table,
    Text,
    literal,
    literal_column,
    type_coerce,
)
from sqlalchemy import Dialect as SqlDialect
from sqlalchemy import Numeric as SqlNumeric
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Boolean, NullType, TypeDecorator, TypeEngine

COMMA: Any = literal_column("','")
"""The separator of `func.aggregate_strings` in a `Statement`: SQLAlchemy inserts a `str` only when it
runs a statement itself."""
EXACT_FLOAT_LIMIT = 2**53  # smaller integers are exact as float64
INT64_LIMIT = 2**63  # smaller integers fit into 64 bits


def insert_new(connection: Connection, table: Table) -> Insert:
    """Return an INSERT that skips rows that a unique index already has."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # takes long to import

        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


class OneOf(FunctionElement[bool]):
    """The condition that a column has one of any number of values."""

    type = Boolean()
    inherit_cache = True

    def __init__(
        self,
        column: ColumnElement[Any],
        values: Iterable[int | float | str | None] | BindParameter[Any],
    ) -> None:
        """Take the values, or a parameter for a list of values."""
        kind: _ValueList = _TextList()
        if isinstance(column.type, BigInteger):
            kind = _IntegerList()
        elif isinstance(column.type, Number):
            kind = _NumberList()
        is_parameter = isinstance(values, BindParameter)
        super().__init__(
            column, type_coerce(values, kind) if is_parameter else literal(list(values), kind)
        )

    def self_group(self, against: object = None) -> OneOf:
        """Return itself: SQLAlchemy's default, `… = 1`, keeps SQLite from using an index."""
        return self


class Holds(FunctionElement[bool]):
    """The condition that a column holds a text, letter for letter."""

    type = Boolean()
    inherit_cache = True

    def __init__(self, column: ColumnElement[str], text: str) -> None:
        """Take the text as a parameter."""
        super().__init__(column, literal(text, Text()))

    def self_group(self, against: object = None) -> Holds:
        """Return itself; see `OneOf`."""
        return self


class Now(FunctionElement[int]):
    """The time of the database's clock, in microseconds since 1970."""

    type = BigInteger()
    inherit_cache = True


class Entries(FunctionElement[Any]):
    """The entries of a JSON object, as rows: key, type, value, and number if it is one.

    `type` is a type of SQLite's `json_each`; a number that is not a 64-bit integer becomes the
    nearest float64.
    """

    name = "entries"
    inherit_cache = True


class Elements(FunctionElement[Any]):
    """The elements of a list in metadata, with the columns of `Entries`; their keys mean nothing."""

    name = "elements"
    inherit_cache = True


class Number(TypeDecorator[int | float]):
    """A number that is compared with `Entries`' numbers exactly, integers and floats alike."""

    impl = SqlNumeric
    cache_ok = True

    def load_dialect_impl(self, dialect: SqlDialect) -> TypeEngine[Any]:
        """Return the type for the driver."""
        kind = SqlNumeric() if dialect.name == "postgresql" else NullType()
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value: int | float | None, dialect: SqlDialect) -> Any:
        """Return the value for the driver."""
        return _decimal(value) if value is not None and dialect.name == "postgresql" else value


class _ValueList(TypeDecorator[list[Any]]):
    """Values of one type as one parameter: an array, or JSON in SQLite, which has no arrays."""

    impl = Text
    cache_ok = True
    element: TypeEngine[Any] = Text()

    def load_dialect_impl(self, dialect: SqlDialect) -> TypeEngine[Any]:
        kind = ARRAY(self.element) if dialect.name == "postgresql" else Text()
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value: list[Any] | None, dialect: SqlDialect) -> Any:
        if dialect.name == "postgresql":
            return [element for element in value or () if _is_storable(element)]
        return json.dumps(value)


class _IntegerList(_ValueList):
    cache_ok = True
    element = BigInteger()


class _TextList(_ValueList):
    cache_ok = True


class _NumberList(_ValueList):
    """Numbers that are compared with `Entries`' numbers exactly, as a `Number` is."""

    cache_ok = True
    element = SqlNumeric()

    def process_bind_param(self, value: list[Any] | None, dialect: SqlDialect) -> Any:
        if dialect.name == "postgresql":
            return [_decimal(number) for number in value or ()]
        # JSON has no infinity; SQLite reads a number that overflows float64 as infinity.
        return json.dumps(value).replace("Infinity", "9e999")


@compiles(OneOf, "sqlite")
def _one_of_in_sqlite(element: OneOf, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"


@compiles(OneOf, "postgresql")
def _one_of_in_postgresql(element: OneOf, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} = ANY ({values})"


@compiles(Holds, "sqlite")
def _holds_in_sqlite(element: Holds, compiler: SQLCompiler, **options: Any) -> str:
    column, text = (compiler.process(clause, **options) for clause in element.clauses)
    return f"instr({column}, {text}) > 0"


@compiles(Holds, "postgresql")
def _holds_in_postgresql(element: Holds, compiler: SQLCompiler, **options: Any) -> str:
    column, text = (compiler.process(clause, **options) for clause in element.clauses)
    return f"strpos({column}, {text}) > 0"


@compiles(Now, "sqlite")
def _now_in_sqlite(element: Now, compiler: SQLCompiler, **options: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)"


@compiles(Now, "postgresql")
def _now_in_postgresql(element: Now, compiler: SQLCompiler, **options: Any) -> str:
    return "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


@compiles(Entries, "sqlite")
@compiles(Elements, "sqlite")
def _entries_in_sqlite(element: Entries | Elements, compiler: SQLCompiler, **options: Any) -> str:
    metadata = compiler.process(element.clauses, **options)
    return f"(SELECT key, type, value, value AS number FROM json_each({metadata}))"


@compiles(Entries, "postgresql")
def _entries_in_postgresql(element: Entries, compiler: SQLCompiler, **options: Any) -> str:
    return f"metadata_entries({compiler.process(element.clauses, **options)})"


_ELEMENTS = """(
    SELECT NULL::text AS key,
        CASE json_typeof(element.value)
            WHEN 'string' THEN 'text' WHEN 'number' THEN 'real'
            WHEN 'boolean' THEN element.value #>> '{{}}' ELSE json_typeof(element.value) END AS type,
        (element.value #>> '{{}}') COLLATE "C" AS value,
        CASE WHEN json_typeof(element.value) = 'number'
            THEN metadata_number(element.value #>> '{{}}') END AS number
    FROM json_array_elements(({}) :: json) AS element)"""


@compiles(Elements, "postgresql")
def _elements_in_postgresql(element: Elements, compiler: SQLCompiler, **options: Any) -> str:
    return _ELEMENTS.format(compiler.process(element.clauses, **options))


def _decimal(number: int | float) -> Decimal:
    """Return the value that PostgreSQL's `metadata_number` returns for the same number."""
    if isinstance(number, int) or EXACT_FLOAT_LIMIT <= abs(number) < INT64_LIMIT:
        return Decimal(int(number))
    return Decimal(repr(number))


def _is_storable(value: object) -> bool:
    """Return whether PostgreSQL can store a text; a query for one that it cannot store fails."""
    if not isinstance(value, str):
        return True
    try:
        return b"\x00" not in value.encode()
    except UnicodeEncodeError:
        return False
