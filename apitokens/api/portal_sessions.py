"""`/api/v1/portal-sessions`: the vendor's backend lets its own signed-in people into a tenant's pages."""

from uuid import UUID

from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from apitokens import access
from apitokens.api.acting import ENVIRONMENT, TENANT, ApiRequest, TenantMissing, principal_named, principal_of
from apitokens.api.serializers import StrictSerializer, keys
from apitokens.governance import portal_sessions
from apitokens.governance.portal_sessions import OnlyForBackends, Wanted
from apitokens.governance.vouched import EMAIL_MAX, ID_MAX, NAME_MAX
from apitokens.models import Owner, PortalSession
from apitokens.orders import InvalidField
from apitokens.origins import URL_MAX
from apitokens.paging import PortalSessionPages

USER = OpenApiParameter("user", description="Your own id of a person: only theirs.")
USER_TO_END = OpenApiParameter("user", required=True, description="Your own id of the person whose sessions end.")


class PersonInput(StrictSerializer):
    """Somebody who is signed in to your product. What you say of them replaces what you said before."""

    id = serializers.CharField(
        max_length=ID_MAX, help_text="Your own id of them, which never changes and is never anybody else's."
    )
    email = serializers.CharField(
        max_length=EMAIL_MAX,
        allow_null=True,
        required=False,
        help_text="To be shown beside the name. It identifies nobody.",
    )
    name = serializers.CharField(max_length=NAME_MAX, allow_blank=True, required=False)


class PortalSessionInput(StrictSerializer):
    tenant = serializers.CharField(max_length=255, required=False, help_text="Id or external id.")
    user = PersonInput()
    roles = keys(
        required=False,
        help_text=(
            "Keys or ids of the roles they have from now on; without it those that they have. Somebody who is no "
            "member yet needs one."
        ),
    )
    return_url = serializers.CharField(
        max_length=URL_MAX,
        required=False,
        help_text="Where “Back to …” leads: a page of one of the environment's embedding origins.",
    )
    locale = serializers.RegexField(
        r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$",
        max_length=35,
        required=False,
        help_text="BCP 47, such as de or pt-BR; without it the browser's.",
    )
    sections = serializers.ListField(
        child=serializers.ChoiceField(choices=PortalSession.Section.choices),
        max_length=len(PortalSession.Section.values),
        required=False,
        help_text="What is shown beside tokens, as far as their roles let them see it; without it everything.",
    )


class OpenedOutput(serializers.Serializer):
    """`url` works once, until `expires_at`; nothing tells it again."""

    id = serializers.UUIDField()
    url = serializers.CharField()
    expires_at = serializers.DateTimeField()


class PersonOutput(serializers.Serializer):
    id = serializers.CharField(source="voucher_user_id")
    email = serializers.EmailField(allow_null=True)
    name = serializers.CharField()


class PortalSessionOutput(serializers.Serializer):
    """One whose link waits to be opened (`opened_at` null), or that is open."""

    id = serializers.UUIDField()
    tenant = serializers.UUIDField(source="tenant_id")
    member = serializers.UUIDField(source="membership_id")
    user = PersonOutput(source="membership.user")
    token = serializers.CharField(
        source="token.token_id", help_text="The token that opened it, and with which it ends."
    )
    sections = serializers.ListField(child=serializers.ChoiceField(choices=PortalSession.Section.choices))
    locale = serializers.CharField()
    created_at = serializers.DateTimeField()
    opened_at = serializers.DateTimeField(allow_null=True)
    last_seen_at = serializers.DateTimeField(allow_null=True, help_text="To the minute.")
    ends_at = serializers.DateTimeField(help_text="At the latest; after an hour without a visit it is over before.")


class PortalSessions(APIView):
    @extend_schema(
        responses=PortalSessionOutput(many=True),
        parameters=[TENANT, ENVIRONMENT, USER],
        operation_id="portal_sessions_list",
    )
    def get(self, request: ApiRequest) -> Response:
        """Those that are live, newest first, a page at a time."""
        principal = principal_named(request)
        access.require(principal, "portal-sessions:read")
        found = portal_sessions.visible(principal, at=timezone.now())
        if who := request.GET.get("user"):
            found = portal_sessions.of_person(found, who)
        pages = PortalSessionPages()
        page = pages.paginate_queryset(found, request)
        return pages.get_paginated_response(PortalSessionOutput(page, many=True).data)

    @extend_schema(
        request=PortalSessionInput,
        responses={201: OpenedOutput},
        parameters=[TENANT],
        operation_id="portal_sessions_create",
    )
    def post(self, request: ApiRequest) -> Response:
        """Get a link to the tenant's pages for one of your people. Only with a token of the environment."""
        data = PortalSessionInput(data=request.data)
        data.is_valid(raise_exception=True)
        asked = dict(data.validated_data)
        principal = principal_of(request, asked.pop("tenant", None) or request.GET.get("tenant"))
        if principal.token is None or principal.token.owner != Owner.ENVIRONMENT:
            raise OnlyForBackends
        access.require(principal, "portal-sessions:create")
        if principal.tenant is None:
            raise TenantMissing
        person = asked.pop("user")
        wanted = Wanted(who=person.pop("id"), **person, **asked)
        opened = portal_sessions.create(by=principal, tenant=principal.tenant, wanted=wanted, at=timezone.now())
        session = opened.session
        body = {"id": session.id, "url": opened.link, "expires_at": session.link_expires_at}
        return Response(OpenedOutput(body).data, status=201, headers={"Cache-Control": "no-store"})

    @extend_schema(
        request=None,
        responses={204: None},
        parameters=[TENANT, ENVIRONMENT, USER_TO_END],
        operation_id="portal_sessions_end_all",
    )
    def delete(self, request: ApiRequest) -> Response:
        """End all of one person's, in the tenant that is named or in all: when they sign out of your product."""
        principal = principal_named(request)
        access.require(principal, "portal-sessions:delete")
        who = request.GET.get("user")
        if not who:
            raise InvalidField("user", "Name the person, by your own id of them.")
        at = timezone.now()
        found = portal_sessions.of_person(portal_sessions.visible(principal, at=at), who)
        portal_sessions.end(by=principal, sessions=found, at=at)
        return Response(status=204)


class OneSession(APIView):
    @extend_schema(
        request=None, responses={204: None}, parameters=[TENANT, ENVIRONMENT], operation_id="portal_sessions_end"
    )
    def delete(self, request: ApiRequest, session_id: UUID) -> Response:
        """It opens nothing any more, nor does its link."""
        principal = principal_named(request)
        access.require(principal, "portal-sessions:delete")
        at = timezone.now()
        found = portal_sessions.visible(principal, at=at).filter(pk=session_id)
        if not portal_sessions.end(by=principal, sessions=found, at=at, target_id=session_id):
            raise Http404
        return Response(status=204)
