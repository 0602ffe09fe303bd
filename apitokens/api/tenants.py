"""`/api/v1/tenants`: the environment's tenants, for callers that act for the whole of it."""

from uuid import UUID

from django.urls import reverse
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from apitokens import access
from apitokens.api.acting import (
    ENVIRONMENT,
    IF_MATCH,
    ApiRequest,
    expected_version,
    or_404,
    principal_of_environment,
    with_version,
)
from apitokens.api.environments import SLUG_MAX, TypedName
from apitokens.api.serializers import StrictSerializer
from apitokens.changing import version_of
from apitokens.governance import tenants
from apitokens.governance.tenants import EXTERNAL_ID_MAX
from apitokens.orders import NAME_MAX
from apitokens.paging import TenantPages
from apitokens.principals import Principal
from tenants.models import Tenant

QUERY = OpenApiParameter("q", description="Part of its name, or the beginning of its external id or slug.")


class TenantInput(StrictSerializer):
    name = serializers.CharField(max_length=NAME_MAX)
    slug = serializers.CharField(max_length=SLUG_MAX, help_text="For ever: it stands in the portal's address.")
    external_id = serializers.CharField(
        max_length=EXTERNAL_ID_MAX,
        allow_null=True,
        required=False,
        help_text="Your own id of it; never of the form of ours.",
    )


class TenantChange(StrictSerializer):
    """What is given changes; the rest stays. The external id null takes it away."""

    name = serializers.CharField(max_length=NAME_MAX, required=False)
    external_id = serializers.CharField(max_length=EXTERNAL_ID_MAX, allow_null=True, required=False)


class TenantOutput(serializers.Serializer):
    id = serializers.UUIDField()
    slug = serializers.CharField()
    name = serializers.CharField()
    external_id = serializers.CharField(allow_null=True)
    environment = serializers.CharField(source="environment.slug")
    suspended_at = serializers.DateTimeField(allow_null=True)
    deleted_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()


class Tenants(APIView):
    @extend_schema(responses=TenantOutput(many=True), parameters=[ENVIRONMENT, QUERY], operation_id="tenants_list")
    def get(self, request: ApiRequest) -> Response:
        """The tenants, suspended and deleted ones too, newest first, a page at a time."""
        principal = principal_of_environment(request)
        access.require(principal, "tenants:read")
        rows = access.visible_tenants(principal)
        if wanted := request.GET.get("q"):
            rows = rows.filter(tenants.called_like(wanted))
        pages = TenantPages()
        page = pages.paginate_queryset(rows, request)
        return pages.get_paginated_response(TenantOutput(page, many=True).data)

    @extend_schema(
        request=TenantInput, responses={201: TenantOutput}, parameters=[ENVIRONMENT], operation_id="tenants_create"
    )
    def post(self, request: ApiRequest) -> Response:
        """Make a tenant. Where the environment has a default client, it has one, without a secret."""
        principal = principal_of_environment(request)
        data = TenantInput(data=request.data)
        data.is_valid(raise_exception=True)
        made = tenants.create(by=principal, at=timezone.now(), **{"external_id": None, **data.validated_data})
        answer = _answer(made, status=201)
        answer["Location"] = reverse("api:tenant", args=[made.id])
        return answer


class TenantDoor(APIView):
    def open(self, request: ApiRequest, tenant_id: UUID) -> tuple[Principal, Tenant]:
        principal = principal_of_environment(request)
        access.require(principal, "tenants:read")
        return principal, or_404(access.visible_tenants(principal).filter(pk=tenant_id).first())


class OneTenant(TenantDoor):
    @extend_schema(responses=TenantOutput, parameters=[ENVIRONMENT], operation_id="tenants_read")
    def get(self, request: ApiRequest, tenant_id: UUID) -> Response:
        """One tenant as it is now."""
        return _answer(self.open(request, tenant_id)[1])

    @extend_schema(
        request=TenantChange,
        responses=TenantOutput,
        parameters=[ENVIRONMENT, IF_MATCH],
        operation_id="tenants_change",
    )
    def patch(self, request: ApiRequest, tenant_id: UUID) -> Response:
        """Change what is given."""
        principal, tenant = self.open(request, tenant_id)
        data = TenantChange(data=request.data)
        data.is_valid(raise_exception=True)
        asked = dict(data.validated_data)
        if "external_id" in asked:
            asked["external_id"] = asked["external_id"] or ""
        expected = expected_version(request)
        return _answer(tenants.edit(by=principal, tenant=tenant, at=timezone.now(), expected=expected, **asked))

    @extend_schema(request=TypedName, responses=TenantOutput, parameters=[ENVIRONMENT], operation_id="tenants_delete")
    def delete(self, request: ApiRequest, tenant_id: UUID) -> Response:
        """Stop it at once and erase it after 30 days."""
        principal, tenant = self.open(request, tenant_id)
        data = TypedName(data=request.data)
        data.is_valid(raise_exception=True)
        name = data.validated_data["name"]
        return _answer(tenants.delete(by=principal, tenant=tenant, typed_name=name, at=timezone.now()))


class TenantSuspend(TenantDoor):
    @extend_schema(request=None, responses=TenantOutput, parameters=[ENVIRONMENT], operation_id="tenants_suspend")
    def post(self, request: ApiRequest, tenant_id: UUID) -> Response:
        """Its people and tokens can do nothing until it is reinstated."""
        principal, tenant = self.open(request, tenant_id)
        return _answer(tenants.suspend(by=principal, tenant=tenant, at=timezone.now()))


class TenantReinstate(TenantDoor):
    @extend_schema(request=None, responses=TenantOutput, parameters=[ENVIRONMENT], operation_id="tenants_reinstate")
    def post(self, request: ApiRequest, tenant_id: UUID) -> Response:
        """Let it work again. JWTs issued before stay dead."""
        principal, tenant = self.open(request, tenant_id)
        return _answer(tenants.reinstate(by=principal, tenant=tenant, at=timezone.now()))


class TenantRestore(TenantDoor):
    @extend_schema(request=None, responses=TenantOutput, parameters=[ENVIRONMENT], operation_id="tenants_restore")
    def post(self, request: ApiRequest, tenant_id: UUID) -> Response:
        """Take its deletion back, within 30 days."""
        principal, tenant = self.open(request, tenant_id)
        return _answer(tenants.restore(by=principal, tenant=tenant, at=timezone.now()))


def _answer(tenant: Tenant, status: int = 200) -> Response:
    return with_version(TenantOutput(tenant).data, version_of(tenants.snapshot(tenant)), status)
