"""`/api/v1/events`: the record of what was done, for machines. The pages' audit tab and its CSV show the same rows."""

from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from apitokens import access
from apitokens.api.acting import ENVIRONMENT, TENANT_TO_READ, ApiRequest, principal_reading
from apitokens.credentials import TOKEN_ID
from apitokens.models import ApiToken
from apitokens.orders import InvalidField
from apitokens.paging import EventPages
from audit.models import ActorKind, AuditEvent, Outcome
from audit.queries import Sought, events_of, names_of

VERB_MAX = 64
FILTERS = [
    OpenApiParameter("verb", description="A whole verb, such as `apitoken.issued`, or the noun before its dot."),
    OpenApiParameter("actor", OpenApiTypes.UUID, description="Id of the person or token that acted."),
    OpenApiParameter("actor_kind", enum=ActorKind.values, description="Only what such actors did."),
    OpenApiParameter("target", description="Id of what it was done to; of a token its `id` as the API names it."),
    OpenApiParameter("outcome", enum=Outcome.values, description="Only what was done, or only what was refused."),
    OpenApiParameter("since", OpenApiTypes.DATETIME, description="From this moment on."),
    OpenApiParameter("until", OpenApiTypes.DATETIME, description="Before this moment."),
]


class EventQuery(serializers.Serializer):
    """The filters in the address. What can't be meant is an error that names it: it must not pass for "nothing"."""

    verb = serializers.RegexField(r"^[a-z_]+(\.[a-z_]+)?$", max_length=VERB_MAX, required=False)
    actor = serializers.UUIDField(required=False)
    actor_kind = serializers.ChoiceField(choices=ActorKind.choices, required=False)
    target = serializers.CharField(max_length=36, required=False)
    outcome = serializers.ChoiceField(choices=Outcome.choices, required=False)
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)

    def sought(self, environment_id: UUID) -> Sought:
        asked = self.validated_data
        return Sought(
            verb=asked.get("verb", ""),
            actor_id=asked.get("actor"),
            actor_kind=asked.get("actor_kind", ""),
            target_id=_target(asked["target"], environment_id) if "target" in asked else None,
            outcome=asked.get("outcome", ""),
            since=asked.get("since"),
            until=asked.get("until"),
        )


class ActorOutput(serializers.Serializer):
    kind = serializers.ChoiceField(choices=ActorKind.choices)
    id = serializers.UUIDField(allow_null=True)
    name = serializers.CharField(allow_null=True, help_text="As last seen; null for the system and for who was erased.")
    on_behalf_of = serializers.UUIDField(allow_null=True, help_text="The person whose personal token acted.")


class TargetOutput(serializers.Serializer):
    kind = serializers.CharField()
    id = serializers.UUIDField(allow_null=True)


class EventOutput(serializers.Serializer):
    """One change, or one refusal. `before` and `after` hold what changed, and never a secret."""

    id = serializers.UUIDField()
    at = serializers.DateTimeField()
    verb = serializers.CharField()
    outcome = serializers.ChoiceField(choices=Outcome.choices)
    reason = serializers.CharField(help_text="Why it was refused; empty for what was done.")
    actor = ActorOutput()
    tenant = serializers.UUIDField(allow_null=True)
    target = TargetOutput()
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)
    ip = serializers.IPAddressField(allow_null=True)
    request_id = serializers.CharField()


class Events(APIView):
    @extend_schema(
        responses=EventOutput(many=True), parameters=[ENVIRONMENT, TENANT_TO_READ, *FILTERS], operation_id="events_list"
    )
    def get(self, request: ApiRequest) -> Response:
        """What was done and what was refused, newest first: of one tenant, or for the vendor's of the environment."""
        principal = principal_reading(request)
        access.require(principal, "audit:read")
        query = EventQuery(data=request.GET.dict())
        query.is_valid(raise_exception=True)
        environment_id = principal.environment.id
        events = events_of(
            environment_id=environment_id,
            tenant_id=principal.tenant.id if principal.tenant else None,
            sought=query.sought(environment_id),
        )
        pages = EventPages()
        page = pages.paginate_queryset(events, request)
        return pages.get_paginated_response(EventOutput(_as_output(page), many=True).data)


def _target(reference: str, environment_id: UUID) -> UUID:
    """The id by which the record knows it; raises InvalidField for what is no id. An unknown one finds nothing."""
    if TOKEN_ID.fullmatch(reference):
        known = ApiToken.objects.filter(environment=environment_id, token_id=reference)
        return known.values_list("pk", flat=True).first() or UUID(int=0)
    try:
        return UUID(reference)
    except ValueError as error:
        raise InvalidField("target", "Name it by its id.") from error


def _as_output(events: list[AuditEvent]) -> list[dict[str, object]]:
    names = names_of(events)
    return [
        {
            "id": event.id,
            "at": event.at,
            "verb": event.verb,
            "outcome": event.outcome,
            "reason": event.reason,
            "actor": {
                "kind": event.actor_kind,
                "id": event.actor_id,
                "name": names.get(event.actor_id),
                "on_behalf_of": event.on_behalf_of,
            },
            "tenant": event.tenant_id,
            "target": {"kind": event.target_kind, "id": event.target_id},
            "before": event.before,
            "after": event.after,
            "ip": event.ip,
            "request_id": event.request_id,
        }
        for event in events
    ]
