"""`/api/v1/signing-keys`: the ring of an environment, its rotation, and what to do when a key has leaked."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from apitokens import access, keyring
from apitokens.api.acting import ENVIRONMENT, ApiRequest, or_404, principal_of_environment
from apitokens.ceiling import check_environment_wide
from apitokens.governance import signing_keys
from apitokens.models import SigningKey
from apitokens.paging import SigningKeyPages
from apitokens.principals import Principal
from tenants.models import Environment


class SigningKeyOutput(serializers.Serializer):
    """The public part; the private one never leaves the ring. `created_at` is when it was published."""

    kid = serializers.CharField()
    algorithm = serializers.ChoiceField(choices=Environment.Algorithm.choices)
    state = serializers.ChoiceField(choices=SigningKey.State.choices)
    created_at = serializers.DateTimeField()
    active_from = serializers.DateTimeField(
        allow_null=True, help_text="Since when it has signed; while it is published, when it is to."
    )
    retiring_from = serializers.DateTimeField(allow_null=True, help_text="When its successor took over.")
    verifies_until = serializers.SerializerMethodField()
    ended_at = serializers.DateTimeField(allow_null=True, help_text="When it was retired, or declared compromised.")
    public_jwk = serializers.JSONField()

    @extend_schema_field(serializers.DateTimeField(allow_null=True, help_text="While it retires: until when."))
    def get_verifies_until(self, key: SigningKey) -> str | None:
        ends: dict[UUID, datetime] = self.context["ends"]
        return serializers.DateTimeField().to_representation(ends[key.id]) if key.id in ends else None


class SigningKeys(APIView):
    @extend_schema(responses=SigningKeyOutput(many=True), parameters=[ENVIRONMENT], operation_id="signing_keys_list")
    def get(self, request: ApiRequest) -> Response:
        """The environment's keys in every state, newest first; public parts only."""
        pages = SigningKeyPages()
        page = pages.paginate_queryset(keyring.ring(_open(request).environment), request)
        return pages.get_paginated_response(_described(page))

    @extend_schema(
        request=None, responses={201: SigningKeyOutput}, parameters=[ENVIRONMENT], operation_id="signing_keys_rotate"
    )
    def post(self, request: ApiRequest) -> Response:
        """Rotate: publish a successor now. It signs once everybody who verifies can know it, at `active_from`."""
        principal = _open(request)
        key = signing_keys.rotate(by=principal, environment=principal.environment, at=timezone.now())
        return _answer(key, 201)


class SigningKeyCompromised(APIView):
    @extend_schema(
        request=None, responses=SigningKeyOutput, parameters=[ENVIRONMENT], operation_id="signing_keys_compromised"
    )
    def post(self, request: ApiRequest, kid: str) -> Response:
        """Everything that it signed is dead at once. If it was the active one, another signs from this moment.

        Unless it had not signed yet, every JWT of the environment issued until now ends, so that readers of the status
        list learn it too. Clients get new ones.
        """
        principal = _open(request)
        key = or_404(signing_keys.find(principal.environment, kid))
        return _answer(signing_keys.compromise(by=principal, key=key, typed=kid, at=timezone.now()))


def _open(request: ApiRequest) -> Principal:
    principal = principal_of_environment(request)
    access.require(principal, "signing-keys:read")
    check_environment_wide(principal, principal.environment)
    return principal


def _described(ring: list[SigningKey]) -> Any:
    return SigningKeyOutput(ring, many=True, context={"ends": keyring.ends_of(ring)}).data


def _answer(key: SigningKey, status: int = 200) -> Response:
    (described,) = _described([key])
    return Response(described, status=status, headers={"Cache-Control": "no-store"})
