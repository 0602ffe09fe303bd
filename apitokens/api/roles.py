"""`/api/v1/roles` and `/api/v1/permissions`: what can be given, and to whom it would be taken from."""

import re
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.http import Http404
from django.urls import reverse
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from apitokens import access
from apitokens.api.acting import (
    DRY_RUN,
    ENVIRONMENT,
    IF_MATCH,
    TENANT,
    ApiRequest,
    expected_version,
    is_dry_run,
    principal_named,
    with_version,
)
from apitokens.api.serializers import StrictSerializer, keys
from apitokens.governance import roles
from apitokens.governance.impact import Impact
from apitokens.governance.roles import CHANGED_AT_ONCE, RoleChange
from apitokens.orders import NAME_MAX, InvalidField
from apitokens.paging import KeyPages
from apitokens.principals import Principal
from tenants.models import UUID_FORM, Role
from tenants.policy import HeldRole
from tenants.queries import available_roles, held_roles

PERMISSIONS_MAX = 500
REPLACEMENT = OpenApiParameter("replacement", description="Key or id of what takes its place wherever it is used.")
FORCE = OpenApiParameter("force", enum=["true"], description="Take it from all who have it, with nothing in its place.")


class RoleOutput(serializers.Serializer):
    """A role as it is now. `tenant` is whose own it is, null for the vendor's. `version` is its ETag's inner part."""

    id = serializers.UUIDField()
    key = serializers.CharField()
    name = serializers.CharField()
    level = serializers.IntegerField()
    tenant = serializers.UUIDField(allow_null=True)
    permissions = serializers.ListField(child=serializers.CharField())
    is_for_new_tenants = serializers.BooleanField()
    version = serializers.CharField()


class RoleUsage(serializers.Serializer):
    members = serializers.IntegerField()
    tokens = serializers.IntegerField()
    invitations = serializers.IntegerField()
    sign_ons = serializers.IntegerField()
    token_types = serializers.IntegerField()
    new_tenants = serializers.IntegerField()


class RoleWithUsage(RoleOutput):
    """With how many of each kind have it."""

    usage = RoleUsage()


class RoleInput(StrictSerializer):
    """A role to be made. Without a key it gets one from its name; a tenant's own begins with `own:`."""

    key = serializers.CharField(max_length=80, required=False, default="")
    name = serializers.CharField(max_length=NAME_MAX)
    level = serializers.IntegerField(help_text="0 to 32,767; higher means more power.")
    permissions = keys(required=False, default=list)


class RoleChangeInput(StrictSerializer):
    """What is given changes; the rest stays. `permissions` are all that the role shall hold."""

    name = serializers.CharField(max_length=NAME_MAX, required=False)
    level = serializers.IntegerField(required=False)
    permissions = serializers.ListField(
        child=serializers.CharField(max_length=128), max_length=PERMISSIONS_MAX, required=False
    )


class RoleOfMany(RoleChangeInput):
    """One of several: with its version, it changes only if it is as you have seen it."""

    id = serializers.UUIDField()
    version = serializers.CharField(max_length=64, required=False)


class RolesChangeInput(StrictSerializer):
    roles = RoleOfMany(many=True, allow_empty=False, max_length=CHANGED_AT_ONCE)  # type: ignore[call-arg]  # of the list

    def validate_roles(self, rows: list[dict]) -> list[dict]:
        if len({row["id"] for row in rows}) < len(rows):
            raise serializers.ValidationError("Each role once.")
        return rows


class LossOutput(serializers.Serializer):
    """A token that would lose `lost`; `stops` when nothing would be left for it to do."""

    id = serializers.CharField()
    name = serializers.CharField()
    owner = serializers.CharField()
    tenant = serializers.CharField(allow_null=True, help_text="The tenant's slug.")
    lost = serializers.ListField(child=serializers.CharField())
    stops = serializers.BooleanField()


class RoleImpactOutput(serializers.Serializer):
    """What a change would do: `count` tokens would lose something; the first of those that you may see are named."""

    count = serializers.IntegerField()
    is_capped = serializers.BooleanField(help_text="Too many to compare them all: there may be more.")
    members = serializers.IntegerField(help_text="Members whose roles change; their rights follow at once.")
    tokens = LossOutput(many=True)


class RolesChanged(serializers.Serializer):
    roles = RoleOutput(many=True)


def impact_answer(principal: Principal, impact: Impact) -> Response:
    seen = access.only_visible(principal, [row.token_id for row in impact.rows])
    tokens = [
        {
            "id": row.token_id,
            "name": row.name,
            "owner": row.owner,
            "tenant": row.tenant,
            "lost": list(row.lost),
            "stops": row.stops,
        }
        for row in impact.rows
        if row.token_id in seen
    ]
    body = {"count": impact.count, "is_capped": impact.is_capped, "members": impact.members, "tokens": tokens}
    return Response(RoleImpactOutput(body).data)


def named(reference: str) -> Q:
    """A role or a permission by its key or id."""
    if "\0" in reference:  # which PostgreSQL takes in no text
        return Q(pk__in=[])
    return Q(pk=UUID(reference)) if re.fullmatch(UUID_FORM, reference) else Q(key=reference)


class Roles(APIView):
    @extend_schema(responses=RoleOutput(many=True), parameters=[TENANT, ENVIRONMENT], operation_id="roles_list")
    def get(self, request: ApiRequest) -> Response:
        """The vendor's roles and, with a tenant, that tenant's own; in the order of their keys."""
        principal = principal_named(request)
        access.require(principal, "roles:read")
        pages = KeyPages()
        page = pages.paginate_queryset(available_roles(principal.environment, principal.tenant), request)
        return pages.get_paginated_response(RoleOutput(_outputs(page), many=True).data)

    @extend_schema(
        request=RoleInput, responses={201: RoleOutput}, parameters=[TENANT, ENVIRONMENT], operation_id="roles_create"
    )
    def post(self, request: ApiRequest) -> Response:
        """Make a role: of the vendor's, or in a tenant that tenant's own. You cover it yourself."""
        principal = principal_named(request)
        data = RoleInput(data=request.data)
        data.is_valid(raise_exception=True)
        role = roles.create(by=principal, tenant=principal.tenant, at=timezone.now(), **data.validated_data)
        answer = _answer(role, status=201)
        answer["Location"] = reverse("api:role", args=[role.id])
        return answer

    @extend_schema(
        request=RolesChangeInput,
        responses={200: RolesChanged},
        parameters=[TENANT, ENVIRONMENT, DRY_RUN],
        operation_id="roles_change_many",
    )
    def patch(self, request: ApiRequest) -> Response:
        """Change several roles, all or none. With `dry_run`, say which tokens would lose what."""
        principal = principal_named(request)
        data = RolesChangeInput(data=request.data)
        data.is_valid(raise_exception=True)
        rows = data.validated_data["roles"]
        changes = {row["id"]: _change(row) for row in rows}
        if access.visible_roles(principal).filter(pk__in=changes).count() < len(changes):
            raise Http404
        expected = {row["id"]: row["version"] for row in rows if "version" in row}
        if is_dry_run(request):
            impact = roles.preview(by=principal, changes=changes, at=timezone.now(), expected=expected)
            return impact_answer(principal, impact)
        changed = roles.edit_many(by=principal, changes=changes, at=timezone.now(), expected=expected)
        return Response(RolesChanged({"roles": _outputs(changed)}).data)


class RoleView(APIView):
    @extend_schema(responses=RoleWithUsage, parameters=[TENANT, ENVIRONMENT], operation_id="roles_read")
    def get(self, request: ApiRequest, role_id: UUID) -> Response:
        """One role, and how much uses it."""
        principal = principal_named(request)
        access.require(principal, "roles:read")
        role = access.open_role(principal, role_id)
        body = {**_outputs([role])[0], "usage": roles.usage_of(role, at=timezone.now(), tenant=principal.tenant)}
        return with_version(RoleWithUsage(body).data, roles.version(role))

    @extend_schema(
        request=RoleChangeInput,
        responses=RoleOutput,
        parameters=[TENANT, ENVIRONMENT, IF_MATCH, DRY_RUN],
        operation_id="roles_change",
    )
    def patch(self, request: ApiRequest, role_id: UUID) -> Response:
        """Change a role. What it loses, its tokens lose at once; what it gains, none of them has."""
        principal = principal_named(request)
        role = access.open_role(principal, role_id)
        data = RoleChangeInput(data=request.data)
        data.is_valid(raise_exception=True)
        change, expected = _change(data.validated_data), expected_version(request)
        if is_dry_run(request):
            seen = {role.id: expected} if expected else {}
            impact = roles.preview(by=principal, changes={role.id: change}, at=timezone.now(), expected=seen)
            return impact_answer(principal, impact)
        return _answer(roles.edit(by=principal, role=role, change=change, at=timezone.now(), expected=expected))

    @extend_schema(
        responses={204: None, 200: RoleImpactOutput},
        parameters=[TENANT, ENVIRONMENT, IF_MATCH, DRY_RUN, REPLACEMENT, FORCE],
        operation_id="roles_delete",
    )
    def delete(self, request: ApiRequest, role_id: UUID) -> Response:
        """End a role. In use, it needs a replacement or force."""
        principal = principal_named(request)
        role = access.open_role(principal, role_id)
        replacement = None
        if reference := request.GET.get("replacement"):
            replacement = access.visible_roles(principal).filter(named(reference)).first()
            if replacement is None:
                raise InvalidField("replacement", f"Unknown role: {reference[:100]}.")
        asked: dict[str, Any] = {
            "by": principal,
            "role": role,
            "replacement": replacement,
            "expected": expected_version(request),
        }
        if is_dry_run(request):
            return impact_answer(principal, roles.preview_delete(**asked, at=timezone.now()))
        roles.delete(**asked, at=timezone.now(), force=request.GET.get("force") == "true")
        return Response(status=204)


def _change(given: dict) -> RoleChange:
    return RoleChange(**{name: given[name] for name in ("name", "level", "permissions") if name in given})


def _answer(role: Role, status: int = 200) -> Response:
    return with_version(RoleOutput(_outputs([role])[0]).data, roles.version(role), status)


def _outputs(rows: Sequence[Role]) -> list[dict[str, object]]:
    held = held_roles(rows)
    return [_output(role, held[role.id]) for role in rows]


def _output(role: Role, held: HeldRole) -> dict[str, object]:
    return {
        "id": role.id,
        "key": role.key,
        "name": role.name,
        "level": role.level,
        "tenant": role.tenant_id,
        "permissions": sorted(held.permissions),
        "is_for_new_tenants": role.is_for_new_tenants,
        "version": roles.version(role, held),
    }
