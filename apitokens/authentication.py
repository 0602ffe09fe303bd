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
from django.db.models import CharField, DateTimeField, Exists, OuterRef, UUIDField
from django.utils.encoding import iri_to_uri

from apitokens import assertions, credentials, gathering, jwts, policy
from apitokens.models import ApiToken, Kind, Owner, RevokedJWT, UsageHour, UsedAssertion
from apitokens.orders import is_allowed_from
from apitokens.policy import State
from apitokens.prepared import Given, Prepared
from apitokens.querysets import ApiTokenQuerySet
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
    """For strangers: one refusal for all that is not the right secret of a token that exists.

    `named` is whose it says it is. What may be a guess is for the limiter; nobody guesses a signature.
    """

    def __init__(self, named: str | None, *, may_be_guess: bool = True) -> None:
        super().__init__("unknown or wrong")
        self.named, self.may_be_guess = named, may_be_guess


class SecretAsBearer(InvalidCredential):
    """A client secret where a token belongs. Whether it is right is not looked at."""


class Unusable(Exception):
    """For the holder of the right secret: why it does not work now, in words."""


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

    def note(self, outcome: UsageHour.Outcome, *, at: datetime, ip: str | None) -> None:
        """What came of its use (R9)."""
        gathering.used(self.token, outcome=outcome, tenant=self.tenant, at=at, ip=ip, secret_id=self.secret_id)


@dataclass(frozen=True)
class Guard:
    """Who asks about a token that was presented to them: of which tokens they may learn, and from where they ask.

    That is what is noted of a refused one; `client_ip` is as good as who sends it.
    """

    environment_id: UUID
    # One who acts in a tenant learns of that one's tokens, and of the environment's own.
    tenant_id: UUID | None
    ip: str | None

    def may_learn_of(self, token: ApiToken) -> bool:
        is_in_reach = self.tenant_id in {None, token.tenant_id} or token.owner == Owner.ENVIRONMENT
        return token.environment_id == self.environment_id and is_in_reach


def _with_secrets() -> ApiTokenQuerySet:
    return ApiToken.objects.with_standing().with_secrets(at=Given("at", DateTimeField()))


_BY_TOKEN_ID = Prepared(
    lambda: _with_secrets().filter(token_id=Given("token_id", CharField()), kind=Given("kind", CharField()))
)
_BY_CLIENT_ID = Prepared(
    lambda: _with_secrets().filter(client_id=Given("client_id", CharField()), kind=Kind.CLIENT_CREDENTIALS)
)
_BY_KEY = Prepared(
    lambda: (
        ApiToken.objects.with_standing()
        .with_public_keys(at=Given("at", DateTimeField()))
        .filter(client_id=Given("client_id", CharField()), kind=Kind.CLIENT_CREDENTIALS)
    )
)
_UNREVOKED = Prepared(
    lambda: (
        ApiToken.objects.with_standing()
        .filter(
            environment=Given("environment_id", UUIDField()),
            kind=Kind.CLIENT_CREDENTIALS,
            client_id=Given("client_id", CharField()),
        )
        .exclude(Exists(RevokedJWT.objects.filter(environment=OuterRef("environment"), jti=Given("jti", CharField()))))
    )
)


def access_token(plaintext: str, *, at: datetime, ip: str | None, guard: Guard | None = None) -> Authenticated:
    """Check an opaque access token in one query; raises InvalidCredential or Unusable."""
    noted_from = guard.ip if guard else ip
    token, secret_id = _holder(plaintext, at, noted_from, guard)
    return replace(_check(token, token.tenant, at, ip, noted_from=noted_from), secret_id=secret_id)


def client(client_id: str, secret: str, *, at: datetime, ip: str | None) -> Authenticated:
    """Check a client's id and secret in one query; raises InvalidCredential or Unusable."""
    parsed = credentials.parse(secret)
    if parsed is None or parsed.marker != credentials.CLIENT_SECRET or "\0" in client_id:
        raise InvalidCredential(client_id)
    found = _BY_CLIENT_ID.first(client_id=client_id, at=at)
    token, secret_id = _matching(found, client_id, secret, at, ip)
    return replace(_check(token, token.tenant, at, ip, noted_from=ip), secret_id=secret_id)


def client_by_assertion(
    client_id: str | None, assertion: str, audience_ok: Collection[str], *, at: datetime, ip: str | None
) -> Authenticated:
    """Check a JWT that the client signed with a key of its own (RFC 7523); raises InvalidCredential or Unusable.

    `client_id` is the one sent beside it, if any; `audience_ok` what it may be meant for besides its environment's
    issuer. What is right is used up by this, in a transaction of its own, whether or not the client works now.
    """
    claimed = assertions.read(assertion, at=at)
    if claimed is None:
        raise InvalidCredential(client_id)
    if client_id not in {None, claimed.client_id}:
        raise InvalidCredential(claimed.client_id)
    token = _BY_KEY.first(client_id=claimed.client_id, at=at)
    # One that was replaced is known by its `kid` alone, so that nobody waits while many are tried.
    rows = [(UUID(row[0]), row[1], json.loads(row[2])) for row in (token.key_rows if token else [])]
    named = [row for row in rows if row[2]["kid"] == claimed.kid] or [row for row in rows if row[1]]
    index = assertions.signer(claimed, [jwk for *_, jwk in named])
    if token is None:
        raise InvalidCredential(claimed.client_id)
    secret_id, is_live, _ = named[index] if index is not None else (None, False, None)
    is_meant_for_us = not claimed.audiences.isdisjoint({token.environment.issuer, *audience_ok})
    if not is_live or not is_meant_for_us or not _is_first_use(token, claimed):
        outcome = UsageHour.Outcome.RETIRED_SECRET if secret_id and not is_live else UsageHour.Outcome.WRONG_SECRET
        gathering.used(token, outcome=outcome, tenant=token.tenant, at=at, ip=ip, secret_id=secret_id)
        raise InvalidCredential(claimed.client_id)
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
    unknown = InvalidCredential(None, may_be_guess=False)
    if (verified := jwts.read(text)) is None:
        raise unknown
    claims, key = verified
    found = _UNREVOKED.first(environment_id=key.environment_id, client_id=claims["client_id"], jti=claims["jti"])
    if (token := _learnt(found, guard)) is None:
        raise unknown
    tenant, is_its_own = _tenant_of(claims, token)
    audiences = policy.audiences_now(token).narrowed(jwts.audiences(claims))
    if not is_its_own or claims.get("gen") != policy.generation(token, tenant) or not audiences.allowed:
        raise unknown
    noted_from = guard.ip if guard else ip
    live = _check(token, tenant, at, ip, noted_from=noted_from)
    scopes = frozenset(str(claims.get("scope", "")).split())
    now, is_narrowed = live.now.narrowed(scopes), not claims.get("roles")
    if is_narrowed:
        now = now.without_roles(now.permissions)
    if not now.permissions:
        live.note(UsageHour.Outcome.UNUSABLE, at=at, ip=noted_from)
        raise Unusable(REASONS[State.POWERLESS])
    return replace(live, now=now, audiences=audiences, scopes=scopes, is_narrowed=is_narrowed, claims=claims)


def presented(text: str, *, at: datetime, ip: str | None, guard: Guard | None = None) -> Authenticated:
    """Check a JWT or an access token, whichever it is, for whatever API; raises InvalidCredential or Unusable."""
    check = access_jwt if jwts.looks_like_jwt(text) else access_token
    return check(text, at=at, ip=ip, guard=guard)


def bearer(text: str, *, at: datetime, ip: str | None) -> Authenticated:
    """Check what came as Bearer (RFC 6750) to our own API; raises InvalidCredential, SecretAsBearer or Unusable."""
    parsed = credentials.parse(text)
    if parsed is not None and parsed.marker == credentials.CLIENT_SECRET:
        raise SecretAsBearer(None)
    return for_our_api(presented(text, at=at, ip=ip), at=at, ip=ip)


def for_our_api(live: Authenticated, *, at: datetime, ip: str | None) -> Authenticated:
    """The same, if it may be used for our own API; raises Unusable for what is meant for others alone."""
    if live.audiences.own:
        return live
    live.note(UsageHour.Outcome.UNUSABLE, at=at, ip=ip)
    # RFC 6750 section 3 has no quotation mark, no backslash and nothing beyond ASCII in a description.
    meant = ", ".join(iri_to_uri(uri) for uri in sorted(live.audiences.allowed))
    raise Unusable(f"It is for {meant[:200]} and not for this API.")


def holder(plaintext: str, *, at: datetime, ip: str | None) -> ApiToken:
    """The access token of which this is a live secret, whether or not it works now; raises InvalidCredential."""
    token, _ = _holder(plaintext, at, ip)
    return token


def record_seen_in_address(plaintext: str, *, at: datetime, ip: str | None) -> None:
    """If it is a live secret, an event of its token says that logs and histories may have it now: replace it."""
    parsed = credentials.parse(plaintext)
    if parsed is None:
        return
    kind = Kind.ACCESS_TOKEN if parsed.marker == credentials.ACCESS_TOKEN else Kind.CLIENT_CREDENTIALS
    try:
        found = _BY_TOKEN_ID.first(token_id=parsed.token_id, kind=kind, at=at)
        token, _ = _matching(found, parsed.token_id, plaintext, at, ip)
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


def _tenant_of(claims: dict[str, Any], token: ApiToken) -> tuple[Tenant | None, bool]:
    """The tenant a JWT was bound to, and whether that is right: the token's own, or what an environment's named."""
    bound = claims.get("tenant")
    if token.tenant is not None:
        return token.tenant, bound == str(token.tenant_id)
    if bound is None:
        return None, True
    tenant = Tenant.objects.filter(pk=bound, environment=token.environment_id).first()
    return tenant, tenant is not None


def _learnt(token: ApiToken | None, guard: Guard | None) -> ApiToken | None:
    """None also for what whoever asks may not learn of."""
    return token if token is None or guard is None or guard.may_learn_of(token) else None


def _holder(plaintext: str, at: datetime, ip: str | None, guard: Guard | None = None) -> tuple[ApiToken, UUID]:
    """As `_matching`, of an access token."""
    parsed = credentials.parse(plaintext)
    if parsed is None or parsed.marker != credentials.ACCESS_TOKEN:
        raise InvalidCredential(None)
    found = _BY_TOKEN_ID.first(token_id=parsed.token_id, kind=Kind.ACCESS_TOKEN, at=at)
    return _matching(_learnt(found, guard), parsed.token_id, plaintext, at, ip)


def _matching(
    token: ApiToken | None, named: str, plaintext: str, at: datetime, ip: str | None
) -> tuple[ApiToken, UUID]:
    """The token, one of whose live secrets this is, and which; raises InvalidCredential.

    A digest under the newest pepper, whatever was found (R8). One that was replaced is as wrong as any.
    """
    newest = max(settings.PEPPERS)
    digests = {newest: credentials.digest(plaintext, settings.PEPPERS[newest])}
    matches = [row for row in token.secret_rows if _is_right(plaintext, digests, row)] if token else []
    if token is None:
        raise InvalidCredential(named)
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
    raise InvalidCredential(named)


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
        begins = f"{token.not_before:%Y-%m-%dT%H:%M:%SZ}" if token.not_before else ""
        raise Unusable(REASONS[state].format(not_before=begins))
    if tenant is not None and (tenant.suspended_at or tenant.deleted_at):
        raise Unusable(REASONS[State.TENANT_SUSPENDED])
    if not is_allowed_from(token.ip_allowlist, ip):
        raise Unusable("It may not be used from this address.")
    return Authenticated(token=token, tenant=tenant, now=now, audiences=policy.audiences_now(token))
