"""`POST /oauth2/introspect` (RFC 7662): whether a token is active and what it may do, told to who guards resources."""

import ipaddress
from datetime import datetime

from django.http import HttpResponse
from oauthlib.oauth2.rfc6749 import errors

from apitokens import authentication
from apitokens.authentication import Authenticated, InvalidCredential, Unusable
from apitokens.models import Owner, UsageHour
from apitokens.oauth.answers import answer, endpoint
from apitokens.oauth.client_authentication import authenticate
from apitokens.oauth.form import Asked
from apitokens.oauth.presented import BASIC_CHALLENGE, WrongClient

PERMISSION = "tokens:introspect"
INACTIVE = {"active": False}


class Unauthenticated(WrongClient):
    """RFC 7662 section 2.3: 401, however the credentials were sent, and with none at all."""

    def __init__(self, description: str) -> None:
        super().__init__(description, in_header=True)

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": f'{BASIC_CHALLENGE}, Bearer realm="oauth2"'}


class InsufficientScope(errors.OAuth2Error):
    """RFC 6750 section 3.1."""

    error = "insufficient_scope"
    status_code = 403

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": f'Bearer realm="oauth2", error="{self.error}", scope="{PERMISSION}"'}


@endpoint()
def introspect(asked: Asked) -> HttpResponse:
    caller = _caller(asked)
    if "token" not in asked.parameters:
        raise errors.InvalidRequestError(description="Missing parameter: token.")
    ip = _client_ip(asked)
    if caller.token.owner == Owner.USER:
        return answer(INACTIVE)
    try:
        live = authentication.presented(asked.parameters["token"], at=asked.at, ip=ip, guard=_guard(asked, caller))
    except (InvalidCredential, Unusable):
        return answer(INACTIVE)
    if caller.tenant is not None and caller.tenant != live.tenant:
        return answer(INACTIVE)
    live.note(UsageHour.Outcome.INTROSPECTED, at=asked.at, ip=ip)
    return answer(_description(live))


def _caller(asked: Asked) -> Authenticated:
    try:
        caller = authenticate(asked, takes_bearer=True)
    except WrongClient as error:
        raise Unauthenticated(error.description) from error
    caller.note(UsageHour.Outcome.ACCEPTED, at=asked.at, ip=asked.ip)
    if PERMISSION not in caller.now.permissions:
        raise InsufficientScope(description=f"This takes the permission {PERMISSION}.")
    return caller


def _client_ip(asked: Asked) -> str | None:
    """From where the token was presented to the caller; a token with an allowlist is inactive without it."""
    if (sent := asked.parameters.get("client_ip")) is None:
        return None
    try:
        if "%" in sent:
            raise ValueError("a zone, which means nothing to another machine")
        return str(ipaddress.ip_address(sent))
    except ValueError as error:
        raise errors.InvalidRequestError(description="The client_ip is not an IP address.") from error


def _guard(asked: Asked, caller: Authenticated) -> authentication.Guard:
    """The environment's own callers see all of it, or the tenant they act in; a tenant's its own; a person's none.

    A JWT of the environment's is in the tenant that it is bound to.
    """
    tenant_id = caller.tenant.id if caller.tenant else None
    return authentication.Guard(caller.token.environment_id, tenant_id, asked.ip)


def _description(live: Authenticated) -> dict[str, object]:
    """RFC 7662 section 2.2, of a JWT and of an opaque access token; what it may do is what it may do now (R5).

    `aud` is all that it is good for: an opaque token has no `resource` by which it would have chosen.
    """
    token, aud = live.token, sorted(live.audiences.allowed)
    begins = {"iat": _seconds(token.created_at), "nbf": _seconds(token.not_before)}
    claims = begins if live.claims is None else live.claims
    ends = [moment for moment in (claims.get("exp"), _seconds(token.expires_at)) if moment is not None]
    described: dict[str, object | None] = {
        "active": True,
        "scope": " ".join(sorted(live.now.permissions)),
        "client_id": token.client_id,
        "token_type": "Bearer",
        "exp": min(ends, default=None),
        "iat": claims["iat"],
        "nbf": claims.get("nbf"),
        "sub": token.client_id,
        "aud": aud if len(aud) > 1 else aud[0],
        "iss": token.environment.issuer,
        "jti": claims.get("jti"),
        "tenant": str(live.tenant.id) if live.tenant else None,
        "tenant_external_id": live.tenant.external_id if live.tenant else None,
        "env": token.environment.slug,
        "roles": live.now.roles or None,
    }
    return {name: value for name, value in described.items() if value is not None}


def _seconds(moment: datetime | None) -> int | None:
    return int(moment.timestamp()) if moment else None
