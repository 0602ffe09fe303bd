"""Which client is asking at the token endpoint, and for what: django-oauth-toolkit's validator over our own rows.

The library's models stay empty. An `ApiToken` is the client; issuing writes no row (R9).
"""

import re

from django.utils import timezone
from oauth2_provider.oauth2_validators import OAuth2Validator
from oauthlib.common import Request
from oauthlib.oauth2.rfc6749 import errors

from apitokens import authentication
from apitokens.authentication import Authenticated
from apitokens.oauth.presented import Presented, Refused, presented
from tenants.models import SCOPE_TOKEN


class UnusableClient(errors.OAuth2Error):
    """The secret is right, so its holder may know why it does not work (R8)."""

    error = "unauthorized_client"
    status_code = 400


class WrongClient(errors.InvalidClientError):
    """RFC 6749 section 5.2: 401 with the scheme the client used if it used the Authorization header, else 400."""

    def __init__(self, description: str, *, used_basic: bool) -> None:
        super().__init__(description=description)
        self.status_code = 401 if used_basic else 400
        self.used_basic = used_basic

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": 'Basic realm="token endpoint", charset="UTF-8"'} if self.used_basic else {}


class ClientValidator(OAuth2Validator):
    """`request.client` becomes the Authenticated token; `request.headers` are Django's, with the client's address."""

    def authenticate_client(self, request: Request, *args: object, **kwargs: object) -> bool:
        try:
            claimed: Presented = presented(request)
        except Refused as refused:
            raise errors.InvalidRequestError(description=str(refused)) from refused
        if claimed.secret is None:
            raise WrongClient("No client credentials: send them as HTTP Basic or in the body.", used_basic=False)
        try:
            live = authentication.client(
                claimed.client_id, claimed.secret, at=timezone.now(), ip=request.headers["client-ip"]
            )
        except authentication.InvalidCredential as error:
            raise WrongClient("Unknown client or wrong secret.", used_basic=claimed.used_basic) from error
        except authentication.Unusable as error:
            raise UnusableClient(description=str(error)) from error
        request.live = live
        request.client = live.token
        request.client_id = live.token.client_id
        return True

    def validate_grant_type(self, client_id, grant_type, client, request: Request, *args, **kwargs) -> bool:
        return grant_type == "client_credentials"

    def get_default_scopes(self, client_id, request: Request, *args, **kwargs) -> list[str]:
        return sorted(_live(request).now.permissions)

    def validate_scopes(self, client_id, scopes, client, request: Request, *args, **kwargs) -> bool:
        """A narrower scope narrows; asking for more than the token may do now is refused, never cut short."""
        if beyond := frozenset(scopes) - _live(request).now.permissions:
            named = " ".join(sorted(scope for scope in beyond if re.fullmatch(SCOPE_TOKEN, scope)))
            raise errors.InvalidScopeError(description=f"This client may not do: {named[:400]}")
        return True

    def save_bearer_token(self, token, request: Request, *args, **kwargs) -> None:
        """R9: issuing a JWT writes nothing."""


def _live(request: Request) -> Authenticated:
    return request.live
