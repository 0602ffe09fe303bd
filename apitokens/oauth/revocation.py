"""`POST /oauth2/revoke` (RFC 7009): who no longer needs a token, or has found one, ends it."""

from contextlib import suppress
from datetime import UTC, datetime
from hmac import compare_digest

from django.http import HttpResponse
from oauthlib.oauth2.rfc6749 import errors

from apitokens import authentication, jwts, services
from apitokens.access import actor_of_token
from apitokens.authentication import InvalidCredential
from apitokens.models import ApiToken, UsageHour
from apitokens.oauth.answers import answer, endpoint
from apitokens.oauth.client_authentication import authenticate, check_not_too_many
from apitokens.oauth.form import Asked
from apitokens.principals import Principal

CREDENTIALS = {"client_secret", "client_assertion", "client_assertion_type"}


@endpoint()
def revoke(asked: Asked) -> HttpResponse:
    """200 also for what is unknown, somebody else's or at its end already (RFC 7009 section 2.2)."""
    token = asked.parameters.get("token")
    if token is None:
        raise errors.InvalidRequestError(description="Missing parameter: token.")
    if _needs_client(asked, token):
        _revoke_jwt(asked, token)
    else:
        _revoke_access_token(asked, token)
    return answer({})


def _needs_client(asked: Asked, token: str) -> bool:
    """An access token is its own proof, alone, with its client_id or as Bearer; all else a client must answer for."""
    scheme, _, value = asked.authorization.partition(" ")
    is_its_own_bearer = scheme.lower() == "bearer" and compare_digest(value.strip().encode(), token.encode())
    in_header = asked.authorization and not is_its_own_bearer
    return jwts.looks_like_jwt(token) or bool(in_header or asked.parameters.keys() & CREDENTIALS)


def _revoke_jwt(asked: Asked, text: str) -> None:
    """If it is a live JWT of the very client that asks."""
    client = authenticate(asked)
    client.note(UsageHour.Outcome.ACCEPTED, at=asked.at, ip=asked.ip)
    if (verified := jwts.read(text)) is None:
        return
    claims, key = verified
    if (key.environment_id, claims["client_id"]) != (client.token.environment_id, client.token.client_id):
        return
    services.revoke_jwt(
        by=_itself(asked, client.token),
        token=client.token,
        jti=claims["jti"],
        expires_at=datetime.fromtimestamp(claims["exp"], UTC),
    )


def _revoke_access_token(asked: Asked, plaintext: str) -> None:
    """Whoever has it may end it, also from where, or while, it can't be used: possession is what is to be stopped.

    One that nobody has may be a guess, and counts as one though it is answered alike.
    """
    try:
        token = authentication.holder(plaintext, at=asked.at, ip=asked.ip)
    except InvalidCredential as error:
        if error.named is not None:
            check_not_too_many(asked, error.named)
        return
    if asked.parameters.get("client_id", token.client_id) == token.client_id:
        with suppress(services.Gone):
            services.revoke_itself(by=_itself(asked, token), token=token, at=asked.at)


def _itself(asked: Asked, token: ApiToken) -> Principal:
    return Principal(
        actor=actor_of_token(token, ip=asked.ip, request_id=asked.request_id),
        environment=token.environment,
        tenant=token.tenant,
        token=token,
        permissions=frozenset(),
    )
