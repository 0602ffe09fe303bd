from typing import Any

from django.db.models import QuerySet
from django.http import Http404, HttpRequest
from rest_framework.exceptions import NotFound
from rest_framework.request import Request

from apitokens.paging import Pages


def page_of(pages: Pages, rows: QuerySet[Any], request: HttpRequest) -> list[Any]:
    """The rows of the page that the address names; raises Http404 for a cursor that was never one of ours."""
    try:
        return pages.paginate_queryset(rows, Request(request)) or []
    except NotFound as error:
        raise Http404 from error
