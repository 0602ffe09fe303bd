"""`/api/v1/tenants/{id}/sso`: by which identity provider the tenant's people sign in."""

from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.openid import ISSUER_MAX
from apitokens import access
from apitokens.api.acting import (
    ENVIRONMENT,
    IF_MATCH,
    ApiRequest,
    expected_version,
    or_404,
    principal_of,
    with_version,
)
from apitokens.api.serializers import StrictSerializer, keys
from apitokens.changing import version_of
from apitokens.governance import sso
from apitokens.principals import Principal
from tenants.models import IdentityProvider, Tenant


class SsoInput(StrictSerializer):
    """All of it. Without a secret the one that is stored stays, as long as the client does."""

    issuer = serializers.CharField(
        max_length=ISSUER_MAX, help_text="Where the provider describes itself. It stays until it is removed."
    )
    client_id = serializers.CharField(max_length=sso.CLIENT_ID_MAX)
    client_secret = serializers.CharField(
        max_length=sso.SECRET_MAX, required=False, write_only=True, trim_whitespace=False
    )
    roles = keys(help_text="Keys or ids of the roles that newcomers get.")
    enforced = serializers.BooleanField(
        default=False, help_text="The only way in; switched on by somebody who is signed in by it."
    )


class SsoOutput(serializers.Serializer):
    issuer = serializers.CharField()
    client_id = serializers.CharField()
    secret_set_at = serializers.DateTimeField()
    roles = serializers.SerializerMethodField()
    enforced = serializers.BooleanField(source="is_enforced")
    redirect_uri = serializers.SerializerMethodField(help_text="What the provider sends people back to.")
    sign_in_url = serializers.SerializerMethodField(help_text="Where people begin.")

    def get_roles(self, provider: IdentityProvider) -> list[str]:
        return sorted(role.key for role in provider.roles.all())

    def get_redirect_uri(self, provider: IdentityProvider) -> str:
        return sso.redirect_uri(provider.tenant)

    def get_sign_in_url(self, provider: IdentityProvider) -> str:
        return sso.sign_in_address(provider.tenant)


class ReadmittedOutput(serializers.Serializer):
    id = serializers.UUIDField()
    user = serializers.UUIDField(source="user_id")
    roles = serializers.SerializerMethodField()

    def get_roles(self, member) -> list[str]:
        return sorted(role.key for role in member.roles.all())


class SsoDoor(APIView):
    def open(self, request: ApiRequest, tenant_id: UUID) -> tuple[Principal, Tenant]:
        principal = principal_of(request, str(tenant_id))
        access.require(principal, "sso:read")
        return principal, or_404(principal.tenant)


class SingleSignOn(SsoDoor):
    @extend_schema(responses=SsoOutput, parameters=[ENVIRONMENT], operation_id="tenants_sso_read")
    def get(self, request: ApiRequest, tenant_id: UUID) -> Response:
        """The provider, without its secret; 404 while there is none."""
        return _answer(or_404(sso.provider_of(self.open(request, tenant_id)[1])))

    @extend_schema(
        request=SsoInput, responses=SsoOutput, parameters=[ENVIRONMENT, IF_MATCH], operation_id="tenants_sso_set"
    )
    def put(self, request: ApiRequest, tenant_id: UUID) -> Response:
        """Set it up, or change it. A new issuer is asked to describe itself first."""
        principal, tenant = self.open(request, tenant_id)
        data = SsoInput(data=request.data)
        data.is_valid(raise_exception=True)
        asked = dict(data.validated_data)
        asked["is_enforced"] = asked.pop("enforced")
        expected = expected_version(request)
        return _answer(sso.configure(by=principal, tenant=tenant, at=timezone.now(), expected=expected, **asked))

    @extend_schema(
        request=None, responses={204: None}, parameters=[ENVIRONMENT, IF_MATCH], operation_id="tenants_sso_remove"
    )
    def delete(self, request: ApiRequest, tenant_id: UUID) -> Response:
        """Whoever signed in by it is signed out; their memberships stay."""
        principal, tenant = self.open(request, tenant_id)
        sso.remove(by=principal, tenant=tenant, at=timezone.now(), expected=expected_version(request))
        return Response(status=204)


class SsoReadmit(SsoDoor):
    @extend_schema(
        request=None, responses=ReadmittedOutput, parameters=[ENVIRONMENT], operation_id="tenants_sso_readmit"
    )
    def post(self, request: ApiRequest, tenant_id: UUID, removed_id: UUID) -> Response:
        """Let in again whom the provider vouches for and who was removed, with the roles of newcomers."""
        principal, tenant = self.open(request, tenant_id)
        removed = sso.removed(or_404(sso.provider_of(tenant)))
        member = or_404(removed.filter(pk=removed_id).first())
        return Response(ReadmittedOutput(sso.readmit(by=principal, membership=member, at=timezone.now())).data)


def _answer(provider: IdentityProvider) -> Response:
    return with_version(SsoOutput(provider).data, version_of(sso.snapshot(provider)))
