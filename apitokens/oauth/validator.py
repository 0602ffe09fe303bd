"""Which client is asking at the token endpoint, and for what: django-oauth-toolkit's validator over our own rows.

The library's models stay empty. An `ApiToken` is the client; issuing writes no row (R9).
"""

import re

from oauth2_provider.oauth2_validators import OAuth2Validator
from oauthlib.common import Request
from oauthlib.oauth2.rfc6749 import errors

from apitokens.authentication import Authenticated
from apitokens.oauth.client_authentication import authenticate
from tenants.models import SCOPE_TOKEN


class ClientValidator(OAuth2Validator):
    """`request.asked` is what was asked; `request.live` becomes the Authenticated token, `request.client` its row."""

    def authenticate_client(self, request: Request, *args: object, **kwargs: object) -> bool:
        request.live = authenticate(request.asked)
        request.client = request.live.token
        request.client_id = request.client.client_id
        return True

    def validate_grant_type(self, client_id, grant_type, client, request: Request, *args, **kwargs) -> bool:
        return grant_type == "client_credentials"

    def get_default_scopes(self, client_id, request: Request, *args, **kwargs) -> list[str]:
        return sorted(_live(request).now.permissions)

    def validate_scopes(self, client_id, scopes, client, request: Request, *args, **kwargs) -> bool:
        """A narrower scope narrows; asking for more than the token may do now is refused, never cut short."""
        request.scopes = [scope for scope in scopes if scope]
        if not request.scopes:
            raise errors.InvalidScopeError(description="The scope names nothing.")
        if beyond := frozenset(request.scopes) - _live(request).now.permissions:
            named = " ".join(sorted(scope for scope in beyond if re.fullmatch(SCOPE_TOKEN, scope)))
            raise errors.InvalidScopeError(description=f"This client may not do: {named[:400]}")
        return True


def _live(request: Request) -> Authenticated:
    return request.live
