"""One authenticator for every way into the API (R8): a bad credential is a 401, never the next way and never nobody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import APIException, AuthenticationFailed
from rest_framework.request import Request

from apitokens import authentication, basic, credentials, jwts, limiter
from apitokens.access import client_ip
from apitokens.authentication import Authenticated, InvalidCredential, Unusable
from apitokens.metrics import AUTHENTICATIONS
from apitokens.models import UsageHour

if TYPE_CHECKING:
    from accounts.models import User

Check = Callable[[datetime, str | None], Authenticated]
UNKNOWN = "The token is unknown, expired or malformed."
CLIENT_SECRET = "This is a client secret: exchange it, with its client id, for a token at POST /oauth2/token."  # noqa: S105
IN_ADDRESS = (
    "A secret was sent in the address, where logs and histories keep it. It was not accepted: replace it, and send the "
    "new one in the Authorization header."
)


@dataclass(frozen=True, kw_only=True)
class Caller:
    """A live token, or a signed-in person; for a person the tenant is still to be named."""

    live: Authenticated | None = None
    user: User | None = None
    is_authenticated: bool = True

    def token(self) -> Authenticated:
        """The live token of a caller that is not a person."""
        if self.live is None:
            raise TypeError("a person has no token")
        return self.live


class BadCredential(AuthenticationFailed):
    """401. `scheme` is the one used, so that the challenge names it (RFC 6750 section 3, RFC 7617 section 2)."""

    def __init__(self, detail: str, *, scheme: str = "Bearer") -> None:
        super().__init__(detail)
        self.scheme = scheme


class TooManyRefusals(APIException):
    """429, in the place of one refusal too many. A right credential never meets it."""

    status_code = 429
    default_code = "too_many_refusals"

    def __init__(self, seconds: int) -> None:
        super().__init__(f"Too many wrong credentials. Try again in {seconds} seconds.")
        self.seconds = seconds


class ApiAuthentication(BaseAuthentication):
    """Bearer (a JWT or an access token), Basic where the token type allows it, or the portal session with CSRF."""

    def authenticate(self, request: Request) -> tuple[Caller, None] | None:
        for value in (value for _, values in request.GET.lists() for value in values):
            if credentials.parse(value) or (value.startswith("eyJ") and jwts.looks_like_jwt(value)):
                authentication.record_seen_in_address(value, at=timezone.now(), ip=client_ip(request._request))
                raise BadCredential(IN_ADDRESS)
        header = request.headers.get("Authorization")
        if header is None:
            return self._session(request)
        scheme, _, value = header.partition(" ")
        check = {"bearer": self._bearer, "basic": self._basic}.get(scheme.lower())
        if check is None:
            raise BadCredential("Use the Bearer or the Basic scheme.")
        live = check(request, value.strip())
        _note(request, live, UsageHour.Outcome.ACCEPTED)
        return Caller(live=live), None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'

    def _session(self, request: Request) -> tuple[Caller, None] | None:
        # The Django request's: this request's own `user` is what we are about to decide.
        user = request._request.user
        if not user.is_authenticated:
            return None
        SessionAuthentication().enforce_csrf(request)
        return Caller(user=user), None

    def _bearer(self, request: Request, value: str) -> Authenticated:
        kind = "jwt" if jwts.looks_like_jwt(value) else "opaque"
        return _checked(request, kind, lambda at, ip: authentication.bearer(value, at=at, ip=ip))

    def _basic(self, request: Request, value: str) -> Authenticated:
        try:
            client_id, secret = basic.decode(value)
        except basic.Unreadable as error:
            _check_not_too_many(request, None)
            raise BadCredential(str(error), scheme="Basic") from error

        def check(at: datetime, ip: str | None) -> Authenticated:
            live = authentication.client(client_id, secret, at=at, ip=ip)
            return authentication.for_our_api(live, at=at, ip=ip)

        live = _checked(request, "basic", check, scheme="Basic")
        if not live.token.token_type.accepts_basic:
            _note(request, live, UsageHour.Outcome.REJECTED)
            raise BadCredential(
                "This client can't be used directly: exchange it at POST /oauth2/token.", scheme="Basic"
            )
        return live


def _checked(request: Request, kind: str, check: Check, *, scheme: str = "Bearer") -> Authenticated:
    """Only who is refused as a stranger meets the limiter.

    A JWT never does: nobody guesses a signature, and who is to get a new one must be told so by a 401.
    """
    outcome = "accepted"
    try:
        return check(timezone.now(), client_ip(request._request))
    except InvalidCredential as error:
        outcome = "unknown"
        if error.may_be_guess:
            _check_not_too_many(request, error.named)
        is_secret = isinstance(error, authentication.SecretAsBearer)
        raise BadCredential(CLIENT_SECRET if is_secret else UNKNOWN, scheme=scheme) from error
    except Unusable as error:
        outcome = "unusable"
        raise BadCredential(f"The token is right but does not work. {error}", scheme=scheme) from error
    finally:
        AUTHENTICATIONS.labels(kind=kind, outcome=outcome).inc()


def _check_not_too_many(request: Request, named: str | None) -> None:
    """Counts one refused credential, of whom it named; raises TooManyRefusals in the place of its refusal."""
    seconds = limiter.refused(client_id=named, ip=client_ip(request._request), at=timezone.now())
    if seconds is not None:
        raise TooManyRefusals(seconds)


def _note(request: Request, live: Authenticated, outcome: UsageHour.Outcome) -> None:
    live.note(outcome, at=timezone.now(), ip=client_ip(request._request))


class ApiAuthenticationScheme(OpenApiAuthenticationExtension):
    target_class = "apitokens.api.authentication.ApiAuthentication"
    name = ["bearer", "basic", "session"]

    def get_security_definition(self, auto_schema: object) -> list[dict[str, str]]:
        return [
            {"type": "http", "scheme": "bearer", "description": "A JWT from POST /oauth2/token, or an access token."},
            {"type": "http", "scheme": "basic", "description": "Client id and secret, where the token type allows it."},
            {"type": "apiKey", "in": "cookie", "name": "sessionid", "description": "A portal session, with CSRF."},
        ]
