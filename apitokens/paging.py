"""Pages by time and id: never a count, never an offset, however many rows there are."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import DateTimeField
from rest_framework.exceptions import NotFound
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request


class TimePages(CursorPagination):
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 100

    def decode_cursor(self, request: Request) -> Cursor | None:
        """A cursor whose position is no moment was never one of ours; raises NotFound."""
        cursor = super().decode_cursor(request)
        try:
            DateTimeField().to_python(cursor.position if cursor else None)
        except ValidationError as error:
            raise NotFound from error
        return cursor


class TokenPages(TimePages):
    ordering: Any = ("-created_at", "-id")


class EventPages(TimePages):
    ordering: Any = ("-at", "-id")
