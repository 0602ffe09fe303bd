"""Rotation: a new secret beside the old one, then the end of either. By somebody who may, or by the token itself."""

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from apitokens import access, rotation
from apitokens.api.acting import NONCE, ApiRequest, NeedsToken
from apitokens.api.serializers import (
    CompletionInput,
    IssuedOutput,
    RotationInput,
    SelfRotationInput,
    TokenOutput,
)
from apitokens.api.views import TokenDoor, issued_answer
from apitokens.models import ApiToken
from apitokens.principals import Principal


class Rotating(TokenDoor):
    """What the doors of this module do, once one is open."""

    def rotate(self, request: ApiRequest, principal: Principal, token: ApiToken, data: SelfRotationInput) -> Response:
        data.is_valid(raise_exception=True)
        issued = rotation.rotate(
            by=principal,
            token=token,
            at=timezone.now(),
            overlap=data.validated_data.get("overlap"),
            expiry=data.expiry() if isinstance(data, RotationInput) else None,
            compromised=data.validated_data["compromised"],
            public_key=data.validated_data.get("public_key"),
            nonce=request.headers.get("Idempotency-Key"),
        )
        return issued_answer(issued, principal)

    def complete(self, request: ApiRequest, principal: Principal, token: ApiToken) -> Response:
        data = CompletionInput(data=request.data)
        data.is_valid(raise_exception=True)
        completed = rotation.complete(by=principal, token=token, at=timezone.now(), **data.validated_data)
        return self.answer(completed, principal)

    def cancel(self, principal: Principal, token: ApiToken) -> Response:
        return self.answer(rotation.cancel(by=principal, token=token, at=timezone.now()), principal)


class RotatingItself(Rotating):
    """Opens the token that the request carries, which may see and do nothing else by it."""

    def itself(self, request: ApiRequest) -> tuple[Principal, ApiToken]:
        live = request.user.live
        if live is None:
            raise NeedsToken
        principal = access.of_token(live, request._request)
        access.require(principal, rotation.SELF_ROTATE)
        return principal, live.token


class TokenRotate(Rotating):
    @extend_schema(
        request=RotationInput, responses={201: IssuedOutput}, parameters=[NONCE], operation_id="tokens_rotate"
    )
    def post(self, request: ApiRequest, token_id: str) -> Response:
        """A new secret, in this answer only; the old one works until the overlap is over."""
        return self.rotate(request, *self.open(request, token_id), RotationInput(data=request.data))


class TokenRotateComplete(Rotating):
    @extend_schema(request=CompletionInput, responses=TokenOutput, operation_id="tokens_rotate_complete")
    def post(self, request: ApiRequest, token_id: str) -> Response:
        """End the old secret before its deadline."""
        return self.complete(request, *self.open(request, token_id))


class TokenRotateCancel(Rotating):
    @extend_schema(request=None, responses=TokenOutput, operation_id="tokens_rotate_cancel")
    def post(self, request: ApiRequest, token_id: str) -> Response:
        """End the new secret; the old one goes on without a deadline."""
        return self.cancel(*self.open(request, token_id))


class SelfRotate(RotatingItself):
    @extend_schema(
        request=SelfRotationInput, responses={201: IssuedOutput}, parameters=[NONCE], operation_id="token_self_rotate"
    )
    def post(self, request: ApiRequest) -> Response:
        """A new secret for the token of this request, in this answer only; it needs `token:self:rotate`."""
        return self.rotate(request, *self.itself(request), SelfRotationInput(data=request.data))


class SelfRotateComplete(RotatingItself):
    @extend_schema(request=CompletionInput, responses=TokenOutput, operation_id="token_self_rotate_complete")
    def post(self, request: ApiRequest) -> Response:
        """End the old secret of the token of this request before its deadline."""
        return self.complete(request, *self.itself(request))


class SelfRotateCancel(RotatingItself):
    @extend_schema(request=None, responses=TokenOutput, operation_id="token_self_rotate_cancel")
    def post(self, request: ApiRequest) -> Response:
        """End the new secret of the token of this request; the old one goes on without a deadline."""
        return self.cancel(*self.itself(request))
