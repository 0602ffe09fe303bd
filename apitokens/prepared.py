"""Queries whose SQL is written once a process: the ORM takes longer to write a large one than a database to answer it.

    BY_ID = Prepared(lambda: ApiToken.objects.with_standing().filter(pk=Given("id", UUIDField())))
    token = BY_ID.first(id=token_id)

Only the SQL is kept: each asking has its own values, and an answer of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from django.core.exceptions import ObjectDoesNotExist
from django.db import connections
from django.db.models import Expression, Field, Model, QuerySet
from django.db.models.sql.compiler import SQLCompiler

Row = TypeVar("Row", bound=Model)


class Given(Expression):
    """A value that has a name when the query is written, and is there when it is asked."""

    def __init__(self, name: str, output_field: "Field[Any, Any]") -> None:
        super().__init__(output_field=output_field)
        self.name = name

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        return "%s", [self]


@dataclass(frozen=True)
class _Written:
    queryset: "QuerySet[Any]"
    compiler: SQLCompiler
    sql: str
    # Of which each `Given` is to be replaced.
    values: tuple[object, ...]


class _Asking(SQLCompiler):
    """Django's own iteration over rows, asking for SQL, gets what another compiler has written."""

    def __init__(self, written: _Written, given: Mapping[str, object]) -> None:
        compiler = written.compiler
        using = written.queryset.db
        super().__init__(compiler.query, connections[using], using)
        self.select, self.klass_info = compiler.select, compiler.klass_info
        self.annotation_col_map, self.col_count = compiler.annotation_col_map, compiler.col_count
        self.has_extra_select = compiler.has_extra_select
        self._sql = written.sql
        self._values = [self._value(value, given) for value in written.values]

    def _value(self, value: object, given: Mapping[str, object]) -> object:
        if isinstance(value, Given):
            return value.output_field.get_db_prep_value(given[value.name], self.connection)
        return value

    def as_sql(self, *args: Any, **options: Any) -> Any:
        return self._sql, self._values

    def get_compiler(self, *args: Any, **options: Any) -> SQLCompiler:
        return self


class Prepared(Generic[Row]):
    """The query that `write` returns: rows of one model, with whatever it joins, annotates and prefetches."""

    def __init__(self, write: Callable[[], "QuerySet[Row]"]) -> None:
        self._write = write

    def first(self, **given: object) -> Row | None:
        """The first row, if there is one; KeyError if the query wants a value that is not given."""
        return next(iter(self._rows(given)), None)

    def get(self, **given: object) -> Row:
        """The first row; raises ObjectDoesNotExist, or KeyError as `first`."""
        rows = self._rows(given)
        if not rows:
            raise ObjectDoesNotExist
        return rows[0]

    def all(self, **given: object) -> list[Row]:
        """Every row; raises KeyError as `first`."""
        return list(self._rows(given))

    def _rows(self, given: Mapping[str, object]) -> "QuerySet[Row]":
        written = self._written
        asking: Any = _Asking(written, given)
        rows: QuerySet[Row] = QuerySet(written.queryset.model, query=asking, using=asking.using)
        rows._prefetch_related_lookups = written.queryset._prefetch_related_lookups  # type: ignore[attr-defined]
        return rows

    @cached_property
    def _written(self) -> _Written:
        queryset = self._write()
        compiler = queryset.query.get_compiler(using=queryset.db)
        sql, values = compiler.as_sql()
        # It belongs to the thread that asked first; nothing of it is needed any more.
        compiler.connection = None
        return _Written(queryset, compiler, sql, tuple(values))
