"""Pages by time and id: never a count, never an offset, however many rows there are."""

from datetime import UTC
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import DateTimeField
from rest_framework.exceptions import NotFound
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request


class Pages(CursorPagination):
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 100

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
        try:
            moment = DateTimeField().to_python(cursor.position if cursor else None)
            # As the database will have it: one at the calendar's edge can't be told in another zone.
            _ = moment and moment.astimezone(UTC)
        except (ValidationError, ValueError, OverflowError) as error:
            raise NotFound from error
        return cursor


class TokenPages(TimePages):
    ordering: Any = ("-created_at", "-id")


class MemberPages(TimePages):
    """Of members, of the vendor's people and of invitations."""

    ordering: Any = ("-created_at", "-id")


class EventPages(TimePages):
    ordering: Any = ("-at", "-id")


class TenantPages(TimePages):
    ordering: Any = ("-created_at", "-id")


class SigningKeyPages(TimePages):
    ordering: Any = ("-created_at", "-id")


class EnvironmentPages(TimePages):
    ordering: Any = ("-created_at", "-id")
