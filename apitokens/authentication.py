"""Whether a presented credential is good, and what it may do now: the only place that decides "live".

Strangers learn nothing: unknown, wrong, deleted and other-environment credentials are one refusal, found at the same
cost (R8). Only who presents the *correct* secret learns that its token is expired, disabled or suspended.
"""

import hmac
import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils.encoding import iri_to_uri

from apitokens import assertions, credentials, gathering, jwts, policy
from apitokens.models import ApiToken, Kind, RevokedJWT, UsageHour, UsedAssertion
from apitokens.orders import is_allowed_from
from apitokens.policy import State
from audit.actors import Actor
from audit.models import ActorKind
from audit.services import record
from tenants.models import Tenant

logger = logging.getLogger(__name__)

REASONS = {
    State.ENVIRONMENT_SUSPENDED: "Its environment is suspended.",
    State.TENANT_SUSPENDED: "Its tenant is suspended.",
    State.TYPE_DISABLED: "Tokens of this owner and kind are switched off.",
    State.OWNER_SUSPENDED: "Its owner is suspended or has left.",
    State.OWNER_LEFT: "Its owner is suspended or has left.",
    State.DISABLED: "It is disabled.",
    State.NOT_YET: "It is not valid before {not_before}.",
    State.EXPIRED: "It has expired.",
    State.NO_AUDIENCE: "None of the APIs that it is held to is left.",
    State.POWERLESS: "Nothing it was granted is left.",
}


class InvalidCredential(Exception):
    """For strangers: one refusal for all that is not the right secret of a token that exists."""


class Unusable(Exception):
    """For the holder of the right secret: why it does not work now."""

    def __init__(self, state: State | None, message: str) -> None:
        super().__init__(message)
        self.state = state


def reason(token: ApiToken, state: State) -> str:
    """In words for who holds the right secret."""
    begins = f"{token.not_before:%Y-%m-%dT%H:%M:%SZ}" if token.not_before else ""
    return REASONS[state].format(not_before=begins)


@dataclass(frozen=True, kw_only=True)
class Authenticated:
    """A live token with what it may do now. `tenant` is the one it acts in, None for its whole environment.

    `secret_id` is the version of its secret that was presented, None for a JWT; `scopes` and `claims` are the JWT's.
    """

    token: ApiToken
    tenant: Tenant | None
    now: policy.Effective
    audiences: policy.Audiences
    scopes: frozenset[str] | None = None
    is_narrowed: bool = False
    secret_id: UUID | None = None
    claims: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Guard:
    """Who asks about a token that was presented to them: of which tokens they may learn, and from where they ask.

    That is what is noted of a refused one; `client_ip` is as good as who sends it.
    """

    tokens: Q
    ip: str | None


def access_token(plaintext: str, *, at: datetime, ip: str | None, guard: Guard | None = None) -> Authenticated:
    """Check an opaque access token in one query; raises InvalidCredential or Unusable."""
    parsed = credentials.parse(plaintext)
    if parsed is None or parsed.marker != credentials.ACCESS_TOKEN:
        raise InvalidCredential
    found = Q(token_id=parsed.token_id, kind=Kind.ACCESS_TOKEN)
    guard = guard or Guard(Q(), ip)
    token, secret_id = _matching(found & guard.tokens, plaintext, at, guard.ip)
    return replace(_check(token, token.tenant, at, ip, noted_from=guard.ip), secret_id=secret_id)


def client(client_id: str, secret: str, *, at: datetime, ip: str | None) -> Authenticated:
    """Check a client's id and secret in one query; raises InvalidCredential or Unusable."""
    parsed = credentials.parse(secret)
    if parsed is None or parsed.marker != credentials.CLIENT_SECRET or "\0" in client_id:
        raise InvalidCredential
    found = Q(client_id=client_id, kind=Kind.CLIENT_CREDENTIALS)
    token, secret_id = _matching(found, secret, at, ip)
    return replace(_check(token, token.tenant, at, ip, noted_from=ip), secret_id=secret_id)


def client_by_assertion(
    client_id: str | None, assertion: str, audience_ok: Collection[str], *, at: datetime, ip: str | None
) -> Authenticated:
    """Check a JWT that the client signed with a key of its own (RFC 7523); raises InvalidCredential or Unusable.

    `client_id` is the one sent beside it, if any; `audience_ok` what it may be meant for besides its environment's
    issuer. What is right is used up by this, in a transaction of its own, whether or not the client works now.
    """
    claimed = assertions.read(assertion, at=at)
    if claimed is None or client_id not in {None, claimed.client_id}:
        raise InvalidCredential
    found = ApiToken.objects.filter(client_id=claimed.client_id, kind=Kind.CLIENT_CREDENTIALS)
    token = found.with_standing().with_public_keys(at=at).first()
    # One that was replaced is known by its `kid` alone, so that nobody waits while many are tried.
    rows = [(UUID(row[0]), row[1], json.loads(row[2])) for row in (token.key_rows if token else [])]
    named = [row for row in rows if row[2]["kid"] == claimed.kid] or [row for row in rows if row[1]]
    index = assertions.signer(claimed, [jwk for *_, jwk in named])
    if token is None:
        raise InvalidCredential
    secret_id, is_live, _ = named[index] if index is not None else (None, False, None)
    is_meant_for_us = not claimed.audiences.isdisjoint({token.environment.issuer, *audience_ok})
    if not is_live or not is_meant_for_us or not _is_first_use(token, claimed):
        outcome = UsageHour.Outcome.RETIRED_SECRET if secret_id and not is_live else UsageHour.Outcome.WRONG_SECRET
        gathering.used(token, outcome=outcome, tenant=token.tenant, at=at, ip=ip, secret_id=secret_id)
        raise InvalidCredential
    return replace(_check(token, token.tenant, at, ip, noted_from=ip), secret_id=secret_id)


def _is_first_use(token: ApiToken, assertion: assertions.Assertion) -> bool:
    """Uses the assertion up; of two at the same moment one is the first."""
    try:
        with transaction.atomic(durable=True):
            UsedAssertion.objects.create(token=token, jti_digest=assertion.jti_digest, expires_at=assertion.expires_at)
    except IntegrityError:
        return False
    return True


def access_jwt(text: str, *, at: datetime, ip: str | None, guard: Guard | None = None) -> Authenticated:
    """Check a JWT of ours and the token behind it; it lives while its `gen` is today's sum (R5) and nobody revoked it.

    Raises InvalidCredential or Unusable. What it may do is its scope ∩ what the token may do now, and it is for its
    `aud` ∩ what the token may be used for now.
    """
    if (verified := jwts.read(text)) is None:
        raise InvalidCredential
    claims, key = verified
    guard = guard or Guard(Q(), ip)
    revoked = RevokedJWT.objects.filter(environment=OuterRef("environment"), jti=claims["jti"])
    token = (
        ApiToken.objects.with_standing()
        .filter(
            guard.tokens, environment=key.environment_id, kind=Kind.CLIENT_CREDENTIALS, client_id=claims["client_id"]
        )
        .exclude(Exists(revoked))
        .first()
    )
    if token is None:
        raise InvalidCredential
    tenant = _tenant_of(claims, token)
    audiences = policy.audiences_of(token).narrowed(jwts.audiences(claims))
    if claims.get("gen") != policy.generation(token, tenant) or not audiences.allowed:
        raise InvalidCredential
    live = _check(token, tenant, at, ip, noted_from=guard.ip)
    scopes = frozenset(str(claims.get("scope", "")).split())
    now, is_narrowed = live.now.narrowed(scopes), not claims.get("roles")
    if is_narrowed:
        now = now.without_roles(now.permissions)
    if not now.permissions:
        raise Unusable(State.POWERLESS, REASONS[State.POWERLESS])
    return replace(live, now=now, audiences=audiences, scopes=scopes, is_narrowed=is_narrowed, claims=claims)


def presented(text: str, *, at: datetime, ip: str | None, guard: Guard | None = None) -> Authenticated:
    """Check a JWT or an access token, whichever it is, for whatever API; raises InvalidCredential or Unusable."""
    check = access_jwt if jwts.looks_like_jwt(text) else access_token
    return check(text, at=at, ip=ip, guard=guard)


def for_our_api(live: Authenticated) -> Authenticated:
    """The same, if it may be used for our own API; raises Unusable for what is meant for others alone."""
    if live.audiences.own:
        return live
    # RFC 6750 section 3 has no quotation mark, no backslash and nothing beyond ASCII in a description.
    meant = ", ".join(iri_to_uri(uri) for uri in sorted(live.audiences.allowed))
    raise Unusable(None, f"It is for {meant[:200]} and not for this API.")


def holder(plaintext: str, *, at: datetime, ip: str | None) -> ApiToken:
    """The access token of which this is a live secret, whether or not it works now; raises InvalidCredential."""
    parsed = credentials.parse(plaintext)
    if parsed is None or parsed.marker != credentials.ACCESS_TOKEN:
        raise InvalidCredential
    token, _ = _matching(Q(token_id=parsed.token_id, kind=Kind.ACCESS_TOKEN), plaintext, at, ip)
    return token


def record_seen_in_address(plaintext: str, *, at: datetime, ip: str | None) -> None:
    """If it is a live secret, an event of its token says that logs and histories may have it now: replace it."""
    parsed = credentials.parse(plaintext)
    if parsed is None:
        return
    try:
        token, _ = _matching(Q(token_id=parsed.token_id), plaintext, at, ip)
    except InvalidCredential:
        return
    record(
        actor=Actor(kind=ActorKind.TOKEN, id=token.id, label=token.name, ip=ip),
        verb="apitoken.secret_in_address",
        target_kind="apitoken",
        target_id=token.id,
        environment_id=token.environment_id,
        tenant_id=token.tenant_id,
        refused_because="secret_in_address",
    )


def _tenant_of(claims: dict[str, Any], token: ApiToken) -> Tenant | None:
    """The tenant a JWT was bound to: the token's own, or the one that an environment-owned token named."""
    bound = claims.get("tenant")
    if token.tenant is not None:
        if bound != str(token.tenant_id):
            raise InvalidCredential
        return token.tenant
    if bound is None:
        return None
    tenant = Tenant.objects.filter(pk=bound, environment=token.environment_id).first()
    if tenant is None:
        raise InvalidCredential
    return tenant


def _matching(found: Q, plaintext: str, at: datetime, ip: str | None) -> tuple[ApiToken, UUID]:
    """The token one of whose live secrets is this one, and which; raises InvalidCredential.

    One query and a digest under the newest pepper, whatever is found (R8). One that was replaced is as wrong as any.
    """
    token = ApiToken.objects.with_standing().with_secrets(at=at).filter(found).first()
    newest = max(settings.PEPPERS)
    digests = {newest: credentials.digest(plaintext, settings.PEPPERS[newest])}
    matches = [row for row in token.secret_rows if _is_right(plaintext, digests, row)] if token else []
    if token is None:
        raise InvalidCredential
    for secret_id, is_live, _, pepper_id in matches:
        if is_live:
            if pepper_id != newest:
                gathering.redigest(UUID(secret_id), was_under=pepper_id, pepper_id=newest, digest=digests[newest])
            return token, UUID(secret_id)
    gathering.used(
        token,
        outcome=UsageHour.Outcome.RETIRED_SECRET if matches else UsageHour.Outcome.WRONG_SECRET,
        tenant=token.tenant,
        at=at,
        ip=ip,
        secret_id=UUID(matches[0][0]) if matches else None,
    )
    raise InvalidCredential


def _is_right(plaintext: str, digests: dict[int, bytes], row: list[Any]) -> bool:
    """Of one of `secret_rows`; `digests` are those of the plaintext by pepper, and grow."""
    secret_id, is_live, stored, pepper_id = row
    if pepper_id not in settings.PEPPERS:
        if is_live:
            logger.error("refused: pepper %s of secret %s is not configured", pepper_id, UUID(secret_id))
        return False
    if pepper_id not in digests:
        digests[pepper_id] = credentials.digest(plaintext, settings.PEPPERS[pepper_id])
    return hmac.compare_digest(digests[pepper_id], bytes.fromhex(stored))


def _check(
    token: ApiToken, tenant: Tenant | None, at: datetime, ip: str | None, *, noted_from: str | None
) -> Authenticated:
    """The right secret is known; whether it works now, from here."""
    try:
        return _usable(token, tenant, at, ip)
    except Unusable:
        gathering.used(token, outcome=UsageHour.Outcome.UNUSABLE, tenant=tenant, at=at, ip=noted_from)
        raise


def _usable(token: ApiToken, tenant: Tenant | None, at: datetime, ip: str | None) -> Authenticated:
    now = policy.effective_permissions(policy.Standing.of(token))
    state = policy.state(token, now, at=at)
    if state != State.USABLE:
        raise Unusable(state, reason(token, state))
    if tenant is not None and (tenant.suspended_at or tenant.deleted_at):
        raise Unusable(State.TENANT_SUSPENDED, REASONS[State.TENANT_SUSPENDED])
    if not is_allowed_from(token.ip_allowlist, ip):
        raise Unusable(None, "It may not be used from this address.")
    return Authenticated(token=token, tenant=tenant, now=now, audiences=policy.audiences_of(token))
