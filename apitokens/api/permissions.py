"""`/api/v1/permissions`: the rights that exist in an environment, the vendor's own and the built-in ones."""

from typing import Any
from uuid import UUID

from django.urls import reverse
from django.utils import timezone
from drf_spectacular.utils import extend_schema
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
    principal_of_environment,
    with_version,
)
from apitokens.api.roles import FORCE, REPLACEMENT, RoleImpactOutput, impact_answer, named
from apitokens.api.serializers import StrictSerializer
from apitokens.governance import permissions
from apitokens.governance.permissions import DESCRIPTION_MAX, PermissionChange
from apitokens.orders import InvalidField
from apitokens.paging import KeyPages
from tenants.models import Permission


class PermissionOutput(serializers.Serializer):
    """A permission: its key is what OAuth scopes name. The built-in ones guard our own pages and endpoints."""

    id = serializers.UUIDField()
    key = serializers.CharField()
    description = serializers.CharField()
    is_built_in = serializers.BooleanField()
    for_environment_tokens = serializers.BooleanField()
    for_tenant_tokens = serializers.BooleanField()
    for_personal_tokens = serializers.BooleanField()


class PermissionUsage(serializers.Serializer):
    roles = serializers.IntegerField()
    tokens = serializers.IntegerField()


class PermissionWithUsage(PermissionOutput):
    usage = PermissionUsage()


class PermissionFields(StrictSerializer):
    description = serializers.CharField(max_length=DESCRIPTION_MAX, allow_blank=True, required=False)
    for_environment_tokens = serializers.BooleanField(required=False)
    for_tenant_tokens = serializers.BooleanField(required=False)
    for_personal_tokens = serializers.BooleanField(required=False)


class PermissionInput(PermissionFields):
    """A permission to be made. What is not said of owners is yes."""

    key = serializers.CharField(max_length=128)


class PermissionChangeInput(PermissionFields):
    """What is given changes. The key never does."""


class Permissions(APIView):
    @extend_schema(
        responses=PermissionOutput(many=True), parameters=[TENANT, ENVIRONMENT], operation_id="permissions_list"
    )
    def get(self, request: ApiRequest) -> Response:
        """What can be given; in a tenant, to those who see its roles. In the order of the keys."""
        principal = principal_named(request)
        access.require(principal, "permissions:read" if principal.tenant is None else "roles:read")
        pages = KeyPages()
        page = pages.paginate_queryset(access.visible_permissions(principal), request)
        return pages.get_paginated_response(PermissionOutput(page, many=True).data)

    @extend_schema(
        request=PermissionInput,
        responses={201: PermissionOutput},
        parameters=[ENVIRONMENT],
        operation_id="permissions_create",
    )
    def post(self, request: ApiRequest) -> Response:
        """Make a permission. Nobody has it until it is given to a role or picked for a token."""
        principal = principal_of_environment(request)
        data = PermissionInput(data=request.data)
        data.is_valid(raise_exception=True)
        permission = permissions.create(by=principal, at=timezone.now(), **data.validated_data)
        answer = _answer(permission, status=201)
        answer["Location"] = reverse("api:permission", args=[permission.id])
        return answer


class PermissionView(APIView):
    @extend_schema(responses=PermissionWithUsage, parameters=[ENVIRONMENT], operation_id="permissions_read")
    def get(self, request: ApiRequest, permission_id: UUID) -> Response:
        """One permission, and how much uses it."""
        principal = principal_of_environment(request)
        access.require(principal, "permissions:read")
        permission = access.open_permission(principal, permission_id)
        usage = permissions.usage_of(permission, tenant=principal.tenant)
        body = {**PermissionOutput(permission).data, "usage": usage}
        return with_version(body, permissions.version(permission))

    @extend_schema(
        request=PermissionChangeInput,
        responses=PermissionOutput,
        parameters=[ENVIRONMENT, IF_MATCH],
        operation_id="permissions_change",
    )
    def patch(self, request: ApiRequest, permission_id: UUID) -> Response:
        """Change what is said of it. Narrowing binds new grants; what was granted stays."""
        principal = principal_of_environment(request)
        permission = access.open_permission(principal, permission_id)
        data = PermissionChangeInput(data=request.data)
        data.is_valid(raise_exception=True)
        changed = permissions.edit(
            by=principal,
            permission=permission,
            change=PermissionChange(**data.validated_data),
            at=timezone.now(),
            expected=expected_version(request),
        )
        return _answer(changed)

    @extend_schema(
        responses={204: None, 200: RoleImpactOutput},
        parameters=[ENVIRONMENT, IF_MATCH, DRY_RUN, REPLACEMENT, FORCE],
        operation_id="permissions_delete",
    )
    def delete(self, request: ApiRequest, permission_id: UUID) -> Response:
        """End a permission. In use, it needs a replacement or force; from tokens it goes in either case."""
        principal = principal_of_environment(request)
        permission = access.open_permission(principal, permission_id)
        replacement = None
        if reference := request.GET.get("replacement"):
            replacement = access.visible_permissions(principal).filter(named(reference)).first()
            if replacement is None:
                raise InvalidField("replacement", f"Unknown permission: {reference[:100]}.")
        asked: dict[str, Any] = {
            "by": principal,
            "permission": permission,
            "replacement": replacement,
            "expected": expected_version(request),
        }
        if is_dry_run(request):
            return impact_answer(principal, permissions.preview_delete(**asked, at=timezone.now()))
        permissions.delete(**asked, at=timezone.now(), force=request.GET.get("force") == "true")
        return Response(status=204)


def _answer(permission: Permission, status: int = 200) -> Response:
    return with_version(PermissionOutput(permission).data, permissions.version(permission), status)
