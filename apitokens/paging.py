"""Pages by time and id: never a count, never an offset, however many rows there are."""

from datetime import UTC
from typing import Any

from django.conf import settings
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
            moment = DateTimeField().to_python(cursor.position if cursor else None)
            # As the database will have it: one at the calendar's edge can't be told in another zone.
            _ = moment and moment.astimezone(UTC)
        except (ValidationError, ValueError, OverflowError) as error:
            raise NotFound from error
        return cursor

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> Any:
        """Links lead to where people and machines reach us, whatever the request's Host header says."""
        page: Any = super().paginate_queryset(queryset, request, view)
        self.base_url = settings.ORIGIN + request.get_full_path()
        return page


class TokenPages(TimePages):
    ordering: Any = ("-created_at", "-id")


class EventPages(TimePages):
    ordering: Any = ("-at", "-id")
