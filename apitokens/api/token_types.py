"""`/api/v1/token-types`: which tokens may exist in an environment, and what a change of that does to those that do."""

from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from apitokens import access, ceiling
from apitokens.api.acting import (
    DRY_RUN,
    ENVIRONMENT,
    IF_MATCH,
    ApiRequest,
    expected_version,
    is_dry_run,
    principal_of_environment,
    with_version,
)
from apitokens.api.serializers import ListedOutput, StrictSerializer, keys
from apitokens.changing import version_of
from apitokens.governance import token_types
from apitokens.governance.token_types import EXISTING, Impact, OverQuota, TypeChange
from apitokens.models import Kind, Owner, TokenType
from apitokens.principals import Principal


def seconds(help_text: str) -> serializers.IntegerField:
    return serializers.IntegerField(allow_null=True, required=False, help_text=help_text)


class Settings(StrictSerializer):
    """Durations are seconds."""

    is_enabled = serializers.BooleanField(required=False)
    roles = keys(required=False, allow_null=True, help_text="What they may carry: keys of roles; null for every role.")
    default_lifetime = seconds("Null for never.")
    longest_lifetime = seconds("Null for no limit.")
    may_never_expire = serializers.BooleanField(required=False)
    jwt_lifetime = serializers.IntegerField(required=False, help_text="60 to 2,592,000.")
    longest_overlap = serializers.IntegerField(required=False, help_text="In a rotation; 0 to 2,592,000.")
    requires_ip_allowlist = serializers.BooleanField(required=False)
    quota = serializers.IntegerField(allow_null=True, required=False, help_text="For each owner; null for no limit.")
    accepts_basic = serializers.BooleanField(required=False, help_text="Id and secret straight on the API.")
    may_make_tokens = serializers.BooleanField(required=False)


class TypeInput(Settings):
    """What is given changes; the rest stays."""

    existing = serializers.ChoiceField(
        choices=EXISTING, default="leave", help_text="What becomes of tokens that are then out of policy."
    )

    def change(self) -> TypeChange:
        given = {name: value for name, value in self.validated_data.items() if name != "existing"}
        if given.get("roles") is not None:
            given["roles"] = tuple(given["roles"])
        return TypeChange(**given)


class TypeOutput(Settings):
    owner = serializers.ChoiceField(choices=Owner.choices)
    kind = serializers.ChoiceField(choices=Kind.choices)


class OwnerOutput(serializers.Serializer):
    tenant = serializers.SerializerMethodField()
    user = serializers.SerializerMethodField()
    count = serializers.IntegerField()

    def get_tenant(self, over: OverQuota) -> str | None:
        return str(over.tenant.id) if over.tenant else None

    def get_user(self, over: OverQuota) -> str | None:
        return str(over.membership.user_id) if over.membership else None


class OwnersOutput(serializers.Serializer):
    count = serializers.IntegerField()
    owners = OwnerOutput(many=True)


class ImpactOutput(serializers.Serializer):
    """What the change would do to tokens that exist."""

    before = TypeOutput()
    after = TypeOutput()
    stops = ListedOutput()
    out_of_policy = ListedOutput()
    loses_basic = ListedOutput()
    loses_making = ListedOutput()
    owners_over_quota = OwnersOutput()


def _body(token_type: TokenType) -> dict[str, object]:
    return {"owner": token_type.owner, "kind": token_type.kind, **token_types.snapshot(token_type)}


def _impact_body(token_type: TokenType, impact: Impact) -> dict[str, object]:
    cell = {"owner": token_type.owner, "kind": token_type.kind}
    consequences = ("stops", "out_of_policy", "loses_basic", "loses_making")
    over = OwnerOutput(impact.owners_over_quota, many=True).data
    return {
        "before": {**cell, **impact.before},
        "after": {**cell, **impact.after},
        **{name: ListedOutput(getattr(impact, name)).data for name in consequences},
        "owners_over_quota": {"count": impact.owners_over_quota_count, "owners": over},
    }


def _opened(request: ApiRequest) -> Principal:
    """The caller, who reads what belongs to the environment as a whole."""
    principal = principal_of_environment(request)
    access.require(principal, "token-types:read")
    ceiling.check_environment_wide(principal, principal.environment)
    return principal


class TokenTypes(APIView):
    @extend_schema(responses=TypeOutput(many=True), parameters=[ENVIRONMENT], operation_id="token_types_list")
    def get(self, request: ApiRequest) -> Response:
        """All six: which owner's tokens of which kind may exist, and within which limits."""
        found = token_types.cells(_opened(request).environment)
        return Response({"next": None, "previous": None, "results": [_body(cell) for cell in found]})


class TokenTypeCell(APIView):
    def open(self, request: ApiRequest, owner: str, kind: str) -> tuple[Principal, TokenType]:
        principal = _opened(request)
        found = [cell for cell in token_types.cells(principal.environment) if (cell.owner, cell.kind) == (owner, kind)]
        if not found:
            raise Http404
        return principal, found[0]

    @extend_schema(responses=TypeOutput, parameters=[ENVIRONMENT], operation_id="token_types_read")
    def get(self, request: ApiRequest, owner: str, kind: str) -> Response:
        """One of the six."""
        found = self.open(request, owner, kind)[1]
        return with_version(_body(found), version_of(token_types.snapshot(found)))

    @extend_schema(
        request=TypeInput,
        responses=PolymorphicProxySerializer(
            component_name="TokenTypeChangeOutput",
            serializers=[TypeOutput, ImpactOutput],
            resource_type_field_name=None,
        ),
        parameters=[ENVIRONMENT, IF_MATCH, DRY_RUN],
        operation_id="token_types_change",
    )
    def patch(self, request: ApiRequest, owner: str, kind: str) -> Response:
        """Change what is given. A dry run says what becomes of existing tokens, and changes nothing."""
        principal, found = self.open(request, owner, kind)
        data = TypeInput(data=request.data)
        data.is_valid(raise_exception=True)
        change, at = data.change(), timezone.now()
        if is_dry_run(request):
            impact = token_types.preview(by=principal, token_type=found, change=change, at=at)
            return Response(_impact_body(found, impact))
        changed = token_types.change(
            by=principal,
            token_type=found,
            change=change,
            at=at,
            existing=data.validated_data["existing"],
            expected=expected_version(request),
        )
        return with_version(_body(changed), version_of(token_types.snapshot(changed)))
