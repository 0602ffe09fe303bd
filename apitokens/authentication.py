"""Whether a presented credential is good, and what it may do now: the only place that decides "live".

Strangers learn nothing: unknown, wrong, deleted and other-environment credentials are one refusal, found at the same
cost (R8). Only who presents the *correct* secret learns that its token is expired, disabled or suspended.
"""

import hmac
import logging
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import Q

from apitokens import credentials, jwts, policy
from apitokens.models import ApiToken, Kind, Secret
from apitokens.orders import is_allowed_from
from apitokens.policy import State
from apitokens.querysets import ABOVE, standing
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
    State.EXPIRED: "It has expired.",
    State.POWERLESS: "Nothing it was granted is left.",
}
_PADDING = b"\0" * 32


class InvalidCredential(Exception):
    """For strangers: one refusal for all that is not the right secret of a token that exists."""


class Unusable(Exception):
    """For the holder of the right secret: why it does not work now."""

    def __init__(self, state: State | None, message: str) -> None:
        super().__init__(message)
        self.state = state


@dataclass(frozen=True, kw_only=True)
class Authenticated:
    """A live token with what it may do now. `tenant` is the one it acts in, None for its whole environment."""

    token: ApiToken
    tenant: Tenant | None
    now: policy.Effective
    audience: str
    scopes: frozenset[str] | None = None
    is_narrowed: bool = False


def access_token(plaintext: str, *, at: datetime, ip: str | None) -> Authenticated:
    """Check an opaque access token in one query; raises InvalidCredential or Unusable."""
    parsed = credentials.parse(plaintext)
    if parsed is None or parsed.marker != credentials.ACCESS_TOKEN:
        raise InvalidCredential
    found = Q(token__token_id=parsed.token_id, kind=Kind.ACCESS_TOKEN)
    return _check_own(_matching(found, plaintext, at), at, ip)


def client(client_id: str, secret: str, *, at: datetime, ip: str | None) -> Authenticated:
    """Check a client's id and secret in one query; raises InvalidCredential or Unusable."""
    parsed = credentials.parse(secret)
    if parsed is None or parsed.marker != credentials.CLIENT_SECRET or "\0" in client_id:
        raise InvalidCredential
    found = Q(token__client_id=client_id, kind=Kind.CLIENT_CREDENTIALS)
    return _check_own(_matching(found, secret, at), at, ip)


def access_jwt(text: str, *, at: datetime, ip: str | None) -> Authenticated:
    """Check a JWT of ours and the token behind it; it lives while its `gen` is today's sum (R5).

    Raises InvalidCredential or Unusable. What it may do is its scope ∩ what the token may do now.
    """
    if (verified := jwts.read(text)) is None:
        raise InvalidCredential
    claims, key = verified
    token = (
        ApiToken.objects.with_standing()
        .filter(client_id=claims["client_id"], kind=Kind.CLIENT_CREDENTIALS, environment=key.environment_id)
        .first()
    )
    if token is None:
        raise InvalidCredential
    tenant = _tenant_of(claims, token)
    if claims.get("gen") != policy.generation(token, tenant):
        raise InvalidCredential
    live = _check(token, tenant, at, ip)
    scopes = frozenset(str(claims.get("scope", "")).split())
    now, is_narrowed = live.now.narrowed(scopes), not claims.get("roles")
    if is_narrowed:
        now = now.without_roles(now.permissions)
    if not now.permissions:
        raise Unusable(State.POWERLESS, REASONS[State.POWERLESS])
    return replace(live, tenant=tenant, now=now, scopes=scopes, is_narrowed=is_narrowed)


def record_seen_in_address(plaintext: str, *, at: datetime, ip: str | None) -> None:
    """If it is a live secret, an event of its token says that logs and histories may have it now: replace it."""
    parsed = credentials.parse(plaintext)
    if parsed is None:
        return
    try:
        token = _matching(Q(token__token_id=parsed.token_id), plaintext, at)
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


def _matching(found: Q, plaintext: str, at: datetime) -> ApiToken:
    """The token one of whose live secrets is this one. Always one query and at least one digest, found or not (R8)."""
    rows = (
        Secret.objects.filter(found, slot__isnull=False, digest__isnull=False)
        .select_related("token", *(f"token__{above}" for above in ABOVE))
        .annotate(**standing("token__"))
    )
    match = None
    for row in rows:
        if _is_right(plaintext, row) and (row.expires_at is None or row.expires_at > at):
            match = row
    if not rows:
        hmac.compare_digest(credentials.digest(plaintext, next(iter(settings.PEPPERS.values()))), _PADDING)
    if match is None:
        raise InvalidCredential
    for name in standing():
        setattr(match.token, name, getattr(match, name))
    return match.token


def _is_right(plaintext: str, secret: Secret) -> bool:
    if secret.digest is None or secret.pepper_id is None:
        return False
    try:
        return credentials.matches(plaintext, bytes(secret.digest), secret.pepper_id, settings.PEPPERS)
    except credentials.PepperMissing:
        logger.error("refused: pepper %s of secret %s is not configured", secret.pepper_id, secret.id)
        return False


def _check_own(token: ApiToken, at: datetime, ip: str | None) -> Authenticated:
    return _check(token, token.tenant, at, ip)


def _check(token: ApiToken, tenant: Tenant | None, at: datetime, ip: str | None) -> Authenticated:
    """The right secret is known; whether it works now, from here."""
    now = policy.effective_permissions(policy.Standing.of(token))
    state = policy.state(token, now, at=at)
    if state != State.USABLE:
        raise Unusable(state, REASONS[state])
    if tenant is not None and (tenant.suspended_at or tenant.deleted_at):
        raise Unusable(State.TENANT_SUSPENDED, REASONS[State.TENANT_SUSPENDED])
    if not is_allowed_from(token.ip_allowlist, ip):
        raise Unusable(None, "It may not be used from this address.")
    return Authenticated(token=token, tenant=tenant, now=now, audience=token.audience or token.environment.issuer)
