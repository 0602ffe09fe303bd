"""`/api/v1/tokens/disable-all`: stop everything that a filter chooses, after a look at what that is."""

from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from apitokens import access
from apitokens.api.acting import DRY_RUN, TENANT, ApiRequest, TenantMissing, is_dry_run, principal_of
from apitokens.api.serializers import ListedOutput, StrictSerializer
from apitokens.finding import TEXT_MAX, Chosen, StateFilter
from apitokens.governance import bulk
from apitokens.models import Kind, Owner


class ChosenInput(StrictSerializer):
    """Which tokens. At least one field; all that are given must agree."""

    tenant = serializers.CharField(max_length=255, required=False, help_text="Id or external id, where not implied.")
    all_tenants = serializers.BooleanField(
        required=False, help_text="Of the whole environment, for the vendor's, who then name no tenant."
    )
    owner = serializers.ChoiceField(choices=Owner.choices, required=False)
    kind = serializers.ChoiceField(choices=Kind.choices, required=False)
    role = serializers.CharField(max_length=TEXT_MAX, required=False, help_text="Key or id.")
    creator = serializers.UUIDField(required=False, help_text="Id of the person who made them.")
    parent = serializers.CharField(  # type: ignore[assignment]
        max_length=TEXT_MAX, required=False, help_text="Id of the token that made them."
    )
    state = serializers.ChoiceField(choices=[state.value for state in StateFilter], required=False)
    never_used = serializers.BooleanField(required=False)
    expiring = serializers.BooleanField(required=False, help_text="Within the next 30 days.")
    q = serializers.CharField(max_length=TEXT_MAX, required=False, help_text="As in the list of tokens.")

    def chosen(self, tenant_id: UUID | None) -> Chosen:
        named = {name: value for name, value in self.validated_data.items() if name not in {"tenant", "all_tenants"}}
        return Chosen(tenant=tenant_id, **named)


class DisabledOutput(serializers.Serializer):
    disabled = serializers.IntegerField()
    left = serializers.IntegerField(help_text="More than a call may stop: call again.")


class DisableAll(APIView):
    @extend_schema(
        request=ChosenInput,
        responses=PolymorphicProxySerializer(
            component_name="DisableAllOutput",
            serializers=[DisabledOutput, ListedOutput],
            resource_type_field_name=None,
        ),
        parameters=[TENANT, DRY_RUN],
        operation_id="tokens_disable_all",
    )
    def post(self, request: ApiRequest) -> Response:
        """Disable every token that the filter chooses; reversible one by one. A dry run lists them instead."""
        data = ChosenInput(data=request.data)
        data.is_valid(raise_exception=True)
        asked, at = data.validated_data, timezone.now()
        principal = principal_of(request, asked.get("tenant") or request.GET.get("tenant"))
        if principal.tenant is None and asked.get("owner") != Owner.ENVIRONMENT and not asked.get("all_tenants"):
            raise TenantMissing
        chosen = data.chosen(principal.tenant.id if principal.tenant else None)
        if is_dry_run(request):
            listed = bulk.preview(by=principal, chosen=chosen, at=at)
            seen = access.only_visible(principal, [token.token_id for token in listed.first])
            named = [token for token in listed.first if token.token_id in seen]
            return Response(ListedOutput({"count": listed.count, "first": named}).data)
        disabled = bulk.disable_all(by=principal, chosen=chosen, at=at)
        left = bulk.preview(by=principal, chosen=chosen, at=at).count if disabled == bulk.MOST else 0
        return Response(DisabledOutput({"disabled": disabled, "left": left}).data)
