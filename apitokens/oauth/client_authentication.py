"""Who calls the token, introspection and revocation endpoints (RFC 6749 section 2.3, RFC 7523, RFC 6750).

A refused credential is one answer for all that strangers may send (R8), and the only thing that is limited.
"""

from django.conf import settings
from django.urls import reverse
from oauthlib.oauth2.rfc6749 import errors

from apitokens import authentication, limiter
from apitokens.authentication import Authenticated
from apitokens.oauth.answers import sayable
from apitokens.oauth.form import Asked
from apitokens.oauth.presented import BearerToken, ClientAssertion, ClientSecret, Unreadable, WrongClient, presented

WRONG_SECRET = "Unknown client or wrong secret."  # noqa: S105 -- says that one is
WRONG_ASSERTION = (
    "Unknown client or wrong assertion: signed with a key of the client, iss and sub its client_id, aud the issuer, "
    "at most five minutes old, not expired, jti never used before."
)
WRONG_TOKEN = "The token is unknown, expired or malformed."  # noqa: S105 -- says that one is
CLIENT_SECRET = "This is a client secret: send it as HTTP Basic with its client id."  # noqa: S105 -- says what it is


class UnusableClient(errors.OAuth2Error):
    """The credential is right, so its holder may know why it does not work (R8)."""

    error = "unauthorized_client"


class WrongToken(errors.OAuth2Error):
    """RFC 6750 section 3.1, for who calls with an access token instead of client credentials."""

    error = "invalid_token"
    status_code = 401

    @property
    def headers(self) -> dict[str, str]:
        described = f'error="{self.error}", error_description="{sayable(self.description)}"'
        return {"WWW-Authenticate": f'Bearer realm="oauth2", {described}'}


class TooManyRefusals(errors.OAuth2Error):
    error = "temporarily_unavailable"
    status_code = 429

    def __init__(self, seconds: int) -> None:
        super().__init__(description=f"Too many wrong credentials. Try again in {seconds} seconds.")
        self.seconds = seconds

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.seconds)}


def authenticate(asked: Asked, *, takes_bearer: bool = False) -> Authenticated:
    """The client, by secret or assertion, or, where that is taken, the holder of an access token or JWT.

    Raises OAuth2Error with the status and the challenge that the answer is to have.
    """
    try:
        match presented(asked):
            case ClientSecret() as claimed:
                return _by_secret(asked, claimed)
            case ClientAssertion() as claimed:
                return _by_assertion(asked, claimed)
            case BearerToken(token) if takes_bearer:
                return _by_bearer(asked, token)
        raise Unreadable("This scheme is not served: use HTTP Basic.", in_header=True)
    except Unreadable:
        check_not_too_many(asked, None)
        raise
    except authentication.Unusable as error:
        raise UnusableClient(description=str(error)) from error


def _by_secret(asked: Asked, claimed: ClientSecret) -> Authenticated:
    try:
        return authentication.client(claimed.client_id, claimed.secret, at=asked.at, ip=asked.ip)
    except authentication.InvalidCredential as error:
        check_not_too_many(asked, error.named)
        raise WrongClient(WRONG_SECRET, in_header=claimed.in_header) from error


def _by_assertion(asked: Asked, claimed: ClientAssertion) -> Authenticated:
    endpoint = settings.ORIGIN + reverse("oauth-token")
    try:
        return authentication.client_by_assertion(
            claimed.client_id, claimed.assertion, audience_ok={endpoint}, at=asked.at, ip=asked.ip
        )
    except authentication.InvalidCredential as error:
        check_not_too_many(asked, error.named)
        raise WrongClient(WRONG_ASSERTION, in_header=False) from error


def _by_bearer(asked: Asked, token: str) -> Authenticated:
    try:
        return authentication.bearer(token, at=asked.at, ip=asked.ip)
    except authentication.InvalidCredential as error:
        if error.may_be_guess:
            check_not_too_many(asked, error.named)
        is_secret = isinstance(error, authentication.SecretAsBearer)
        raise WrongToken(CLIENT_SECRET if is_secret else WRONG_TOKEN) from error
    except authentication.Unusable as error:
        raise WrongToken(f"The token is right but does not work. {error}") from error


def check_not_too_many(asked: Asked, named: str | None) -> None:
    """Counts one refused credential, of whom it named; raises TooManyRefusals in the place of its refusal."""
    seconds = limiter.refused(client_id=named, ip=asked.ip, at=asked.at)
    if seconds is not None:
        raise TooManyRefusals(seconds)
