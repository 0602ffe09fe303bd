"""`/api/v1/tokens/{id}/explain`: why a token may do something, or may not."""

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from apitokens import explaining
from apitokens.api.acting import ENVIRONMENT, TENANT, ApiRequest
from apitokens.api.views import TokenDoor
from apitokens.orders import InvalidField
from apitokens.policy import Layer, State

PERMISSION = OpenApiParameter("permission", description="Its key: only this one, whether or not it exists.")


class ExplanationOutput(serializers.Serializer):
    """`layer` is the rule that decided, `because` the same for people, `since` when, where the record says so."""

    permission = serializers.CharField()
    allowed = serializers.BooleanField(help_text="Whether a request that needs it would pass at this moment.")
    layer = serializers.ChoiceField(choices=[layer.value for layer in Layer])
    because = serializers.CharField()
    since = serializers.DateTimeField(allow_null=True)


class ExplainOutput(serializers.Serializer):
    """A token's state, and each permission that was granted to it or that its roles or its owner hold."""

    id = serializers.CharField()
    state = serializers.ChoiceField(choices=[state.value for state in State])
    permissions = ExplanationOutput(many=True)


class TokenExplain(TokenDoor):
    @extend_schema(responses=ExplainOutput, parameters=[TENANT, ENVIRONMENT, PERMISSION], operation_id="tokens_explain")
    def get(self, request: ApiRequest, token_id: str) -> Response:
        """What it may do now and why, and what it may not and which rule says so."""
        _, token = self.open(request, token_id)
        permission = request.GET.get("permission")
        if permission is not None and (not 1 <= len(permission) <= explaining.KEY_MAX or "\0" in permission):
            raise InvalidField("permission", f"Name a permission by its key, of 1 to {explaining.KEY_MAX} characters.")
        answer = explaining.explain(token, at=timezone.now(), permission=permission)
        body = {"id": token.token_id, "state": answer.state, "permissions": answer.permissions}
        return Response(ExplainOutput(body).data)
