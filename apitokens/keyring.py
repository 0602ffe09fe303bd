"""One ring of signing keys an environment; everything that signs or verifies a JWT goes through it.

A process keeps parsed key objects by `kid`, which never change. It never keeps a key's *state*: whether a key may sign
or verify is read with each request (R11).
"""

import json
from datetime import datetime
from functools import lru_cache
from typing import Any

import jwt
from django.conf import settings
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenBackendExpiredToken

from apitokens import keys
from apitokens.models import SigningKey
from tenants.models import Environment

VERIFYING = [SigningKey.State.PUBLISHED, SigningKey.State.ACTIVE, SigningKey.State.RETIRING]
# RFC 9068 and everything we sign fits in a fraction of this; longer strings are not looked at.
LONGEST_JWT = 8 * 1024


class NoActiveKey(Exception):
    """The environment has no key that may sign: nothing is issued (R11)."""


def create_first_key(environment: Environment, *, at: datetime) -> SigningKey:
    """An environment's first key is active at once: nobody can hold an older JWKS."""
    pair = keys.generate(environment.signing_algorithm)
    return SigningKey.objects.create(
        environment=environment,
        kid=pair.kid,
        algorithm=pair.algorithm,
        state=SigningKey.State.ACTIVE,
        public_jwk=pair.public_jwk,
        private_key_encrypted=keys.encrypt(pair.private_pem, settings.KEY_ENCRYPTION_KEYS),
        active_from=at,
    )


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


def ring(environment: Environment) -> list[SigningKey]:
    """The environment's keys in every state, newest first, without their private parts; at most the last hundred."""
    rows = SigningKey.objects.filter(environment=environment).defer("private_key_encrypted")
    return list(rows.order_by("-created_at", "-id")[:100])


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
                options={"require": ["exp", "iat", "iss", "aud", "sub", "jti", "client_id"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise TokenBackendExpiredToken("the token has expired") from error
        except jwt.InvalidTokenError as error:
            raise TokenBackendError("the token is invalid") from error
        # RFC 9068 section 4: the type is compared without regard to case, with or without "application/".
        if decoded["header"].get("typ", "").lower().removeprefix("application/") != self.typ:
            raise TokenBackendError("the token is of another type")
        payload: dict[str, Any] = decoded["payload"]
        return payload
