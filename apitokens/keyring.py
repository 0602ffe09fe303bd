"""One ring of signing keys an environment; everything that signs or verifies a JWT goes through it.

A process keeps parsed key objects by `kid`, which never change. It never keeps a key's *state*: whether a key may sign
or verify is read with each request (R11).
"""

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

import jwt
from django.conf import settings
from django.db.models import QuerySet
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenBackendExpiredToken

from accounts import sealing
from apitokens import keys
from apitokens.models import Kind, SigningKey, TokenType
from audit.models import AuditEvent, Outcome
from tenants.models import Environment

SIGNING = [SigningKey.State.PUBLISHED, SigningKey.State.ACTIVE]
VERIFYING = [SigningKey.State.PUBLISHED, SigningKey.State.ACTIVE, SigningKey.State.RETIRING]
# RFC 9068 and everything we sign fits in a fraction of this; longer strings are not looked at.
LONGEST_JWT = 8 * 1024
# RFC 9068 section 2.2.
REQUIRED = ["exp", "iat", "iss", "aud", "sub", "jti", "client_id"]
# After its last moment as the active key: what a request that began before it still signs, and clocks that differ.
LEEWAY = timedelta(minutes=5)


class NoActiveKey(Exception):
    """The environment has no key that may sign: nothing is issued (R11)."""


def create_first_key(environment: Environment, *, at: datetime) -> SigningKey:
    """An environment's first key is active at once: nobody can hold an older JWKS."""
    return make(environment, state=SigningKey.State.ACTIVE, at=at, active_from=at)


def make(environment: Environment, *, state: SigningKey.State, at: datetime, active_from: datetime) -> SigningKey:
    """A new key of the environment's algorithm, its private part under the first key-encryption key."""
    pair = keys.generate(environment.signing_algorithm)
    return SigningKey.objects.create(
        environment=environment,
        kid=pair.kid,
        algorithm=pair.algorithm,
        state=state,
        public_jwk=pair.public_jwk,
        private_key_encrypted=sealing.seal(pair.private_pem, settings.KEY_ENCRYPTION_KEYS),
        created_at=at,
        active_from=active_from,
    )


def lead() -> timedelta:
    """How long a key is published before it signs: twice as long as anybody may keep the JWKS, themselves or in a
    cache before them."""
    return timedelta(seconds=2 * settings.JWKS_MAX_AGE)


def ends_of(ring: Iterable[SigningKey]) -> dict[UUID, datetime]:
    """When nothing that they signed can live any more, of those keys of one environment that retire; by their id.

    By what the token types allow now and, as the record has it, have allowed since a key began to sign.
    """
    retiring = [(key, key.active_from, key.retiring_from) for key in ring if key.state == SigningKey.State.RETIRING]
    if not retiring:
        return {}
    environment_id = retiring[0][0].environment_id
    types = TokenType.objects.filter(environment=environment_id, kind=Kind.CLIENT_CREDENTIALS)
    now = dict(types.values_list("id", "jwt_lifetime"))
    changes = AuditEvent.objects.filter(
        target_id__in=[*now, environment_id],
        verb__in=["token_type.changed", "environment.configuration_copied"],
        outcome=Outcome.DONE,
        at__gte=min(began for _, began, _ in retiring if began) - LEEWAY,
    )
    earlier = [(at, _lifetimes_in(before or {})) for at, before in changes.values_list("at", "before")]
    ends = {}
    for key, began, over in retiring:
        if began and over:  # as a constraint has it
            then = [each for at, found in earlier if at >= began - LEEWAY for each in found]
            longest = max([*now.values(), *then], default=0)
            ends[key.id] = over + timedelta(seconds=longest) + LEEWAY
    return ends


def _lifetimes_in(before: dict[str, Any]) -> list[int]:
    """Of a token type before it was changed, or of those that took over another environment's configuration."""
    cells = [before, *before.get("token_type", {}).values()]
    return [cell["jwt_lifetime"] for cell in cells if cell and "jwt_lifetime" in cell]


def active_key(environment: Environment) -> SigningKey:
    """The key that signs now; raises NoActiveKey."""
    try:
        ring = SigningKey.objects.select_related("environment")
        return ring.get(environment=environment, state=SigningKey.State.ACTIVE)
    except SigningKey.DoesNotExist as error:
        raise NoActiveKey(f"environment {environment.slug} has no active signing key") from error


def verifying_key(kid: str) -> SigningKey | None:
    """The key by its id while it may verify, with its environment; None for unknown, retired and compromised ones."""
    return SigningKey.objects.select_related("environment").filter(kid=kid, state__in=VERIFYING).first()


def ring(environment: Environment) -> QuerySet[SigningKey]:
    """The environment's keys in every state, without their private parts."""
    return SigningKey.objects.filter(environment=environment).defer("private_key_encrypted")


def jwks(environment: Environment) -> dict[str, list[dict[str, str]]]:
    """The environment's JSON Web Key Set (RFC 7517 section 5), newest key last."""
    rows = SigningKey.objects.filter(environment=environment, state__in=VERIFYING).order_by("created_at", "id")
    return {"keys": [row.public_jwk for row in rows]}


@lru_cache(maxsize=256)
def _signer(kid: str, encrypted: bytes) -> Any:
    return keys.decrypt_private_key(encrypted, settings.KEY_ENCRYPTION_KEYS)


@lru_cache(maxsize=1024)
def _verifier(kid: str, public_jwk: str) -> Any:
    return jwt.PyJWK.from_json(public_jwk).key


class RingBackend(TokenBackend):
    """Signs and verifies with one key of the ring; the algorithm is the key's, never the one a header names."""

    def __init__(self, key: SigningKey, *, typ: str, issuer: str, audience: str | list[str] | None) -> None:
        super().__init__(algorithm=key.algorithm, issuer=issuer, audience=audience)
        self.key = key
        self.typ = typ

    def encode(self, payload: dict[str, Any]) -> str:
        claims = {**payload, "iss": self.issuer}
        if self.audience is not None:
            claims["aud"] = self.audience
        return jwt.encode(
            claims,
            _signer(self.key.kid, bytes(self.key.private_key_encrypted)),
            algorithm=self.key.algorithm,
            headers={"kid": self.key.kid, "typ": self.typ},
        )

    def decode(self, token: Any, verify: bool = True) -> dict[str, Any]:
        """The claims; raises TokenBackendError for anything but a live JWT of this key, type, issuer and audience."""
        if not verify:
            raise TokenBackendError("an unverified JWT is worth nothing here")
        try:
            decoded = jwt.decode_complete(
                token,
                _verifier(self.key.kid, json.dumps(self.key.public_jwk, sort_keys=True)),
                algorithms=[self.key.algorithm],
                audience=self.audience,
                issuer=self.issuer,
                options={"require": REQUIRED, "verify_aud": self.audience is not None},
            )
        except jwt.ExpiredSignatureError as error:
            raise TokenBackendExpiredToken("the token has expired") from error
        except jwt.InvalidTokenError as error:
            raise TokenBackendError("the token is invalid") from error
        # RFC 9068 section 4: the type is compared without regard to case, with or without "application/".
        if str(decoded["header"].get("typ")).lower().removeprefix("application/") != self.typ:
            raise TokenBackendError("the token is of another type")
        payload: dict[str, Any] = decoded["payload"]
        return payload
