"""Pages by a value and an id: never a count, never an offset, however many rows there are."""

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import DateTimeField, F, Q
from rest_framework.exceptions import NotFound
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.utils.urls import replace_query_param

PAGE_MAX = 100


class Pages(CursorPagination):
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = PAGE_MAX

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> Any:
        """Links lead to where people and machines reach us, whatever the request's Host header says."""
        page: Any = super().paginate_queryset(queryset, request, view)
        self.base_url = settings.ORIGIN + request.get_full_path()
        return page


class KeyPages(Pages):
    """What is found by its key: in that order, which is the one that people look things up in."""

    ordering: Any = ("key", "id")

    def decode_cursor(self, request: Request) -> Cursor | None:
        """Raises NotFound for a position that can't be a key."""
        cursor = super().decode_cursor(request)
        if cursor and "\0" in str(cursor.position or ""):  # which PostgreSQL takes in no text
            raise NotFound
        return cursor


class TimePages(Pages):
    def decode_cursor(self, request: Request) -> Cursor | None:
        """A cursor whose position is no moment was never one of ours; raises NotFound."""
        cursor = super().decode_cursor(request)
        if cursor:
            _moment(cursor.position)
        return cursor


def _moment(position: object) -> datetime | None:
    """Raises NotFound for what is none."""
    try:
        moment: datetime | None = DateTimeField().to_python(position)
        # As the database will have it: one at the calendar's edge can't be told in another zone.
        return moment and moment.astimezone(UTC)
    except (TypeError, ValidationError, ValueError, OverflowError) as error:
        raise NotFound from error


def _text(position: object) -> str:
    """Raises NotFound for what no text column can hold."""
    if not isinstance(position, str) or "\0" in position:
        raise NotFound
    try:
        position.encode()
    except UnicodeEncodeError as error:  # half a character
        raise NotFound from error
    return position


@dataclass(frozen=True, kw_only=True)
class Column:
    """What a list is walked by, and then by id. A column with gaps says whether what has no value is the least.

    The ids break ties in the direction of the walk, as the indexes of lists do.
    """

    name: str
    read: Any = _moment
    has_gaps: bool = False
    gaps_are_least: bool = False

    def ordering(self, *, is_ascending: bool) -> tuple[Any, str]:
        column, pk = F(self.name), "pk" if is_ascending else "-pk"
        # Said only where it matters: an index is walked if it has the very order that is asked for.
        first = {"nulls_first" if is_ascending == self.gaps_are_least else "nulls_last": True} if self.has_gaps else {}
        return (column.asc(**first) if is_ascending else column.desc(**first)), pk

    def after(self, value: object, pk: UUID, *, is_ascending: bool) -> Q:
        """The rows that a walk comes to after that one, whether or not it is still there."""
        side = "gt" if is_ascending else "lt"
        further = Q(**{f"pk__{side}": pk})
        gaps, are_gaps_ahead = Q(**{f"{self.name}__isnull": True}), is_ascending != self.gaps_are_least
        if value is None:
            return gaps & further if are_gaps_ahead else (gaps & further) | ~gaps
        # The first of the two alone bounds the walk of an index.
        ahead = Q(**{f"{self.name}__{side}e": value}) & (Q(**{f"{self.name}__{side}": value}) | further)
        return ahead | gaps if self.has_gaps and are_gaps_ahead else ahead


COLUMNS: Mapping[str, Column] = {
    "created_at": Column(name="created_at"),
    "name": Column(name="name_key", read=_text),
    "last_used_at": Column(name="last_used_at", has_gaps=True, gaps_are_least=True),
    "expires_at": Column(name="expires_at", has_gaps=True),
}


class Sort(StrEnum):
    """In which order a list has them, as addresses say it: by that field, with a minus the greatest first.

    What was never used counts as used before everything else, what never expires as expiring after everything else.
    """

    NEWEST = "-created_at"
    OLDEST = "created_at"
    NAME = "name"
    NAME_BACKWARDS = "-name"
    LAST_USED = "-last_used_at"
    LONGEST_UNUSED = "last_used_at"
    EXPIRES_FIRST = "expires_at"
    EXPIRES_LAST = "-expires_at"


class TokenPages(Pages):
    """Tokens in any of their orders. A position is the value and the id of a row, so many may share a value or lack it.

    The ids of a page are found first, and what it shows of them is read then: all that is annotated would else be
    worked out for every row that has to be sorted. `read` does that, in any order; else the query itself, once more.
    """

    def __init__(self, sort: Sort = Sort.NEWEST, *, read: Callable[[Sequence[UUID]], list[Any]] | None = None) -> None:
        self.sort, self.read = sort, read
        self.column = COLUMNS[sort.removeprefix("-")]
        self.is_ascending = not sort.startswith("-")

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> Any:
        self.base_url = settings.ORIGIN + request.get_full_path()
        size = self.get_page_size(request) or self.page_size
        is_backwards, position = self._position(request)
        is_ascending = self.is_ascending != is_backwards
        rows = queryset.order_by(*self.column.ordering(is_ascending=is_ascending))
        if position is not None:
            rows = rows.filter(self.column.after(*position, is_ascending=is_ascending))
        found = list(rows.values_list(self.column.name, "pk")[: size + 1])
        keys, is_more = found[:size], len(found) > size
        if is_backwards:
            keys.reverse()
        is_turned = position is not None
        self._first = keys[0] if keys and (is_more if is_backwards else is_turned) else None
        self._last = keys[-1] if keys and (is_turned if is_backwards else is_more) else None
        pks = [pk for _, pk in keys]
        known = {row.pk: row for row in (self.read(pks) if self.read else queryset.filter(pk__in=pks))}
        self.page = [known[pk] for pk in pks if pk in known]
        return self.page

    def get_next_link(self) -> str | None:
        return self._link(self._last, is_backwards=False)

    def get_previous_link(self) -> str | None:
        return self._link(self._first, is_backwards=True)

    def _link(self, key: tuple[Any, UUID] | None, *, is_backwards: bool) -> str | None:
        if key is None:
            return None
        value, pk = key
        position = [self.sort, is_backwards, value.isoformat() if isinstance(value, datetime) else value, pk.hex]
        text = urlsafe_b64encode(json.dumps(position, separators=(",", ":")).encode()).decode()
        return str(replace_query_param(str(self.base_url), self.cursor_query_param, text))

    def _position(self, request: Request) -> tuple[bool, tuple[Any, UUID] | None]:
        """Whether to walk backwards, and from where; raises NotFound for a position that was never one of ours."""
        text = request.query_params.get(self.cursor_query_param)
        if text is None:
            return False, None
        try:
            sort, is_backwards, value, pk = json.loads(urlsafe_b64decode(text.encode()))
            row = UUID(pk)
        except (AttributeError, TypeError, ValueError, binascii.Error, RecursionError) as error:
            raise NotFound from error
        if sort != self.sort or not isinstance(is_backwards, bool) or (value is None and not self.column.has_gaps):
            raise NotFound
        return is_backwards, (None if value is None else self.column.read(value), row)


class MemberPages(TimePages):
    """Of members, of the vendor's people and of invitations."""

    ordering: Any = ("-created_at", "-id")


class EventPages(TimePages):
    ordering: Any = ("-at", "-id")


class TenantPages(TimePages):
    ordering: Any = ("-created_at", "-id")


class SigningKeyPages(TimePages):
    ordering: Any = ("-created_at", "-id")


class PortalSessionPages(TimePages):
    ordering: Any = ("-created_at", "-id")


class EnvironmentPages(TimePages):
    ordering: Any = ("-created_at", "-id")
