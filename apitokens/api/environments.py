"""`/api/v1/environments`. A person sees those that they cover, a token its own."""

from typing import Any

from django.http import Http404
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
    ApiRequest,
    expected_version,
    is_dry_run,
    principal_of_environment,
    with_version,
)
from apitokens.api.serializers import StrictSerializer
from apitokens.ceiling import check_environment_wide
from apitokens.changing import version_of
from apitokens.governance import copying, environments
from apitokens.governance.copying import Diff, check_covers_source
from apitokens.governance.environments import IDENTIFIERS_MAX, REAUTHENTICATE_AFTER, URI_MAX
from apitokens.orders import NAME_MAX, InvalidField
from apitokens.origins import ORIGIN_MAX, ORIGINS_MAX
from apitokens.paging import EnvironmentPages
from apitokens.principals import Principal
from tenants.models import Environment

SLUG_MAX = 63


class EnvironmentInput(StrictSerializer):
    name = serializers.CharField(max_length=NAME_MAX)
    slug = serializers.CharField(max_length=SLUG_MAX, help_text="For ever: it stands in the issuer.")
    audience = serializers.CharField(max_length=URI_MAX, help_text="URI of your API: the `aud` of its JWTs.")
    token_prefix = serializers.CharField(max_length=32, required=False, help_text="Without one, as the slug.")
    colour = serializers.ChoiceField(choices=Environment.Colour.choices, required=False)
    signing_algorithm = serializers.ChoiceField(
        choices=Environment.Algorithm.choices, required=False, help_text="Of its first key, and of keys to come."
    )


class EnvironmentChange(StrictSerializer):
    """What is given changes; the rest stays."""

    name = serializers.CharField(max_length=NAME_MAX, required=False)
    colour = serializers.ChoiceField(choices=Environment.Colour.choices, required=False)
    strict_ceiling = serializers.BooleanField(required=False)
    reauthenticate_after = serializers.IntegerField(
        min_value=0,
        max_value=REAUTHENTICATE_AFTER.stop - 1,
        required=False,
        help_text=(
            "Seconds, 60 to 86,400, after which a person has to show again who they are before they make, rotate or "
            "delete a token; 0 asks never. A token can only shorten it."
        ),
    )
    signing_algorithm = serializers.ChoiceField(
        choices=Environment.Algorithm.choices,
        required=False,
        help_text="Of keys to come: rotate the signing key to have one of it.",
    )
    api_identifiers = serializers.ListField(
        child=serializers.CharField(max_length=URI_MAX),
        max_length=IDENTIFIERS_MAX,
        required=False,
        help_text="All of them, the default one first.",
    )
    embedding_origins = serializers.ListField(
        child=serializers.CharField(max_length=ORIGIN_MAX),
        max_length=ORIGINS_MAX,
        required=False,
        help_text=(
            "All origins in whose pages portal sessions may be framed and to whose pages they may lead back, such as "
            "https://app.example.com; http on localhost and 127.0.0.1 alone."
        ),
    )
    default_role = serializers.CharField(
        max_length=128,
        allow_null=True,
        required=False,
        help_text="Key or id of the role of the client that each new tenant is born with; null for no such client.",
    )


class TypedName(StrictSerializer):
    name = serializers.CharField(max_length=NAME_MAX, help_text="The name of what is to be deleted, exactly.")


class EnvironmentOutput(serializers.Serializer):
    id = serializers.UUIDField()
    slug = serializers.CharField()
    name = serializers.CharField()
    colour = serializers.ChoiceField(choices=Environment.Colour.choices)
    issuer = serializers.CharField()
    token_prefix = serializers.CharField()
    signing_algorithm = serializers.ChoiceField(choices=Environment.Algorithm.choices)
    strict_ceiling = serializers.BooleanField()
    reauthenticate_after = serializers.IntegerField(help_text="Seconds; 0 asks never.")
    embedding_origins = serializers.ListField(child=serializers.CharField())
    api_identifiers = serializers.SerializerMethodField()
    default_role = serializers.SerializerMethodField()
    suspended_at = serializers.DateTimeField(allow_null=True)
    deleted_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()

    def get_api_identifiers(self, environment: Environment) -> list[str]:
        """The default one first. From what `_described` read beforehand."""
        rows = sorted(environment.api_identifiers.all(), key=lambda row: (not row.is_default, row.uri))
        return [row.uri for row in rows]

    def get_default_role(self, environment: Environment) -> str | None:
        return environment.default_role_key  # type: ignore[attr-defined]  # annotated


class CopyInput(StrictSerializer):
    def get_fields(self) -> dict[str, Any]:
        return {**super().get_fields(), "from": serializers.CharField(max_length=SLUG_MAX, help_text="Slug.")}


class DifferenceOutput(serializers.Serializer):
    """`tokens` and `members` are how many here have to do with it."""

    kind = serializers.ChoiceField(choices=["permission", "role", "token_type"])
    key = serializers.CharField()
    change = serializers.ChoiceField(choices=["added", "changed", "only_here"])
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)
    effects = serializers.ListField(child=serializers.CharField())
    tokens = serializers.IntegerField()
    members = serializers.IntegerField()


class DiffOutput(serializers.Serializer):
    from_environment = serializers.CharField()
    to_environment = serializers.CharField()
    version = serializers.CharField(help_text="Send it as If-Match, to copy just these differences.")
    is_applied = serializers.BooleanField()
    differences = DifferenceOutput(many=True)


class Environments(APIView):
    @extend_schema(responses=EnvironmentOutput(many=True), operation_id="environments_list")
    def get(self, request: ApiRequest) -> Response:
        """The environments you cover, or the token's own; newest first, a page at a time."""
        if request.user.user is not None:
            rows = access.environments_of(request.user.user)
        else:
            principal = _wide(access.of_token(request.user.token(), request._request))
            rows = Environment.objects.filter(pk=principal.environment.pk)
        pages = EnvironmentPages()
        page = pages.paginate_queryset(environments.described(rows), request)
        return pages.get_paginated_response(EnvironmentOutput(page, many=True).data)

    @extend_schema(
        request=EnvironmentInput,
        responses={201: EnvironmentOutput},
        parameters=[ENVIRONMENT],
        operation_id="environments_create",
    )
    def post(self, request: ApiRequest) -> Response:
        """Make another environment of the vendor whose environment is named. For the vendor's owners, signed in."""
        principal = principal_of_environment(request)
        made = environments.create(by=principal, at=timezone.now(), **_read(EnvironmentInput, request))
        answer = _answer(made, status=201)
        answer["Location"] = reverse("api:environment", args=[made.slug])
        return answer


class EnvironmentDoor(APIView):
    """Opens one environment; somebody else's is 404, as one that never was (R2)."""

    def open(self, request: ApiRequest, slug: str) -> Principal:
        if request.user.user is not None:
            return access.open_environment(request._request, slug, request.user.user)
        principal = access.of_token(request.user.token(), request._request)
        if principal.environment.slug != slug:
            raise Http404
        return principal


class OneEnvironment(EnvironmentDoor):
    @extend_schema(responses=EnvironmentOutput, operation_id="environments_read")
    def get(self, request: ApiRequest, slug: str) -> Response:
        """One environment as it is now."""
        return _answer(_wide(self.open(request, slug)).environment)

    @extend_schema(
        request=EnvironmentChange,
        responses=EnvironmentOutput,
        parameters=[IF_MATCH],
        operation_id="environments_change",
    )
    def patch(self, request: ApiRequest, slug: str) -> Response:
        """Change what is given."""
        principal = self.open(request, slug)
        asked = _read(EnvironmentChange, request)
        if "default_role" in asked:
            asked["default_role"] = asked["default_role"] or ""
        changed = environments.edit(
            by=principal,
            environment=principal.environment,
            at=timezone.now(),
            expected=expected_version(request),
            **asked,
        )
        return _answer(changed)

    @extend_schema(request=TypedName, responses=EnvironmentOutput, operation_id="environments_delete")
    def delete(self, request: ApiRequest, slug: str) -> Response:
        """Stop it at once and erase it after 72 hours. For the vendor's owners, signed in."""
        principal = self.open(request, slug)
        asked = _read(TypedName, request)
        return _answer(
            environments.delete(
                by=principal, environment=principal.environment, typed_name=asked["name"], at=timezone.now()
            )
        )


class EnvironmentSuspend(EnvironmentDoor):
    @extend_schema(request=None, responses=EnvironmentOutput, operation_id="environments_suspend")
    def post(self, request: ApiRequest, slug: str) -> Response:
        """Nothing works in it until it is reinstated, the token that asks included."""
        principal = self.open(request, slug)
        return _answer(environments.suspend(by=principal, environment=principal.environment, at=timezone.now()))


class EnvironmentReinstate(EnvironmentDoor):
    @extend_schema(request=None, responses=EnvironmentOutput, operation_id="environments_reinstate")
    def post(self, request: ApiRequest, slug: str) -> Response:
        """Let it work again. JWTs issued before stay dead."""
        principal = self.open(request, slug)
        return _answer(environments.reinstate(by=principal, environment=principal.environment, at=timezone.now()))


class EnvironmentRestore(EnvironmentDoor):
    @extend_schema(request=None, responses=EnvironmentOutput, operation_id="environments_restore")
    def post(self, request: ApiRequest, slug: str) -> Response:
        """Take its deletion back, within 72 hours. For the vendor's owners, signed in."""
        principal = self.open(request, slug)
        return _answer(environments.restore(by=principal, environment=principal.environment, at=timezone.now()))


class EnvironmentCopy(EnvironmentDoor):
    @extend_schema(
        request=CopyInput,
        responses=DiffOutput,
        parameters=[DRY_RUN, IF_MATCH],
        operation_id="environments_copy",
    )
    def post(self, request: ApiRequest, slug: str) -> Response:
        """Take over permissions, roles and token types of another environment. For people who may change both."""
        principal = self.open(request, slug)
        source = self._source(request, principal, _read(CopyInput, request)["from"])
        if is_dry_run(request):
            access.require(principal, "environments:create")
            check_covers_source(principal, source)
            return _of_diff(copying.compare(source, principal.environment), is_applied=False)
        diff = copying.copy(by=principal, source=source, at=timezone.now(), expected=expected_version(request))
        return _of_diff(diff, is_applied=True)

    def _source(self, request: ApiRequest, principal: Principal, slug: str) -> Environment:
        if request.user.user is None:
            raise copying.NotOfBoth
        covered = access.environments_of(request.user.user).filter(vendor=principal.environment.vendor_id)
        source = covered.filter(slug=slug, deleted_at__isnull=True).first()
        if source is None:
            raise InvalidField("from", "There is no such environment, or it is not yours.")
        return source


def _read(shape: type[StrictSerializer], request: ApiRequest) -> dict[str, Any]:
    data = shape(data=request.data)
    data.is_valid(raise_exception=True)
    return dict(data.validated_data)


def _wide(principal: Principal) -> Principal:
    """Who may read what belongs to the whole environment."""
    access.require(principal, "environments:read")
    check_environment_wide(principal, principal.environment)
    return principal


def _answer(environment: Environment, status: int = 200) -> Response:
    now = environments.described(Environment.objects.filter(pk=environment.pk)).get()
    return with_version(EnvironmentOutput(now).data, version_of(environments.snapshot(now)), status)


def _of_diff(diff: Diff, *, is_applied: bool) -> Response:
    body = {
        "from_environment": diff.source.slug,
        "to_environment": diff.target.slug,
        "version": diff.version,
        "is_applied": is_applied,
        "differences": diff.differences,
    }
    return with_version(DiffOutput(body).data, diff.version)
