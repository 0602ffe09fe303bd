"""`/api/v1/usage`: how often tokens were used, for machines. The pages' usage tabs add the same counts up."""

import base64
import binascii
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.utils import timezone
from django.utils.http import urlencode
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from apitokens import access
from apitokens.api.acting import ENVIRONMENT, TENANT_TO_READ, ApiRequest, principal_reading
from apitokens.counting import After, Interval, Line, Span, hours_of, lines, span_of
from apitokens.paging import Pages
from apitokens.principals import Principal

FILTERS = [
    OpenApiParameter("token", description="Only of this token, by its `id` as the API names it."),
    OpenApiParameter("interval", enum=list(Interval), description="By the hour, which is what is meant, or the day."),
    OpenApiParameter("since", OpenApiTypes.DATETIME, description="From the hour or day (UTC) of this moment on."),
    OpenApiParameter("until", OpenApiTypes.DATETIME, description="Up to this moment; now if it is left out."),
    OpenApiParameter("page_size", OpenApiTypes.INT, description=f"At most {Pages.max_page_size}."),
    OpenApiParameter("cursor", description="As in `next`."),
]


class UsageQuery(serializers.Serializer):
    """The filters in the address."""

    token = serializers.CharField(max_length=12, required=False)
    interval = serializers.ChoiceField(choices=[each.value for each in Interval], default=Interval.HOUR)
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)
    page_size = serializers.IntegerField(min_value=1, default=Pages.page_size)
    cursor = serializers.CharField(max_length=200, required=False)

    def span(self, at: datetime) -> Span:
        asked = self.validated_data
        interval = Interval(asked["interval"])
        return span_of(interval, since=asked.get("since"), until=asked.get("until"), at=at)


class CountsOutput(serializers.Serializer):
    """How often, by what became of it; an outcome that did not occur is absent."""

    granted = serializers.IntegerField(required=False, help_text="A JWT was issued.")
    accepted = serializers.IntegerField(required=False, help_text="A request to this API was let in.")
    introspected = serializers.IntegerField(required=False, help_text="A resource server was told that it is active.")
    unusable = serializers.IntegerField(
        required=False, help_text="The secret or JWT was right, and did not work then or not from there."
    )
    rejected = serializers.IntegerField(required=False, help_text="The client was right, and asked for too much.")
    wrong_secret = serializers.IntegerField(required=False)
    retired_secret = serializers.IntegerField(required=False, help_text="A secret that had been replaced came again.")


class UsageOutput(serializers.Serializer):
    """What one token did in one tenant in one hour or day."""

    began = serializers.DateTimeField(help_text="When the hour or day began.")
    tenant = serializers.UUIDField(allow_null=True, help_text="Null for what acted for the whole environment.")
    token = serializers.CharField(allow_null=True, help_text="Its id; null if it is gone, or not for you to see.")
    token_uuid = serializers.UUIDField(help_text="As events name it: it stays when the token is gone.")
    counts = CountsOutput()


class Usage(APIView):
    @extend_schema(
        responses=UsageOutput(many=True), parameters=[ENVIRONMENT, TENANT_TO_READ, *FILTERS], operation_id="usage_list"
    )
    def get(self, request: ApiRequest) -> Response:
        """What was counted, newest first: of one tenant, or for the vendor's of the environment. A minute behind."""
        principal = principal_reading(request)
        access.require(principal, "usage:read")
        query = UsageQuery(data=request.GET.dict())
        query.is_valid(raise_exception=True)
        asked, span = query.validated_data, query.span(timezone.now())
        size = min(asked["page_size"], Pages.max_page_size)
        hours = hours_of(
            environment_id=principal.environment.id,
            tenant_id=principal.tenant.id if principal.tenant else None,
            token_id=access.open_token(principal, asked["token"]).id if "token" in asked else None,
            since=span.since,
            until=span.until,
        )
        after = _position(asked["cursor"]) if "cursor" in asked else None
        found = lines(hours, span.interval, after=after, most=size + 1)
        page = found[:size]
        next_url = _next_url(request, span, page[-1]) if len(found) > size else None
        results = UsageOutput(_as_output(principal, page), many=True).data
        return Response({"next": next_url, "previous": None, "results": results})


def _next_url(request: ApiRequest, span: Span, last: Line) -> str:
    """The span goes along: what "now" was must not move from one page to the next."""
    cursor = f"{last.began.isoformat()} {last.token_id.hex} {last.scope_id.hex}"
    asked = {
        **request.GET.dict(),
        "since": span.since.isoformat(),
        "until": span.until.isoformat(),
        "cursor": base64.urlsafe_b64encode(cursor.encode()).decode(),
    }
    return f"{settings.ORIGIN}{request.path}?{urlencode(asked)}"


def _position(cursor: str) -> After:
    """Raises NotFound for what was never one of ours."""
    try:
        began, token_id, scope_id = base64.urlsafe_b64decode(cursor.encode()).decode().split(" ")
        moment = datetime.fromisoformat(began)
        return timezone.localtime(moment), UUID(token_id), UUID(scope_id)
    except (binascii.Error, ValueError, OverflowError) as error:
        raise NotFound("Invalid cursor") from error


def _as_output(principal: Principal, page: list[Line]) -> list[dict[str, object]]:
    tokens = access.visible_tokens(principal).filter(pk__in={line.token_id for line in page})
    names = dict(tokens.values_list("pk", "token_id"))
    return [
        {
            "began": line.began,
            "tenant": None if line.scope_id == principal.environment.id else line.scope_id,
            "token": names.get(line.token_id),
            "token_uuid": line.token_id,
            "counts": line.counts,
        }
        for line in page
    ]
