"""The JWT a client gets at the token endpoint (RFC 9068), on simplejwt's token class and our key ring."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import jwt
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import Token

from apitokens import keyring, policy
from apitokens.models import ApiToken, SigningKey
from tenants.models import Tenant

# RFC 7638: base64url of SHA-256.
KID = re.compile(r"[A-Za-z0-9_-]{43}")


class AccessJWT(Token):
    """`str()` of one signs it. Reading one says that we signed it for this environment and that it has not expired.

    Whether the token behind it still lives is for `authentication`.
    """

    token_type = "at+jwt"  # noqa: S105 -- RFC 9068 section 2.1
    lifetime = timedelta(hours=1)

    def __init__(self, token: Any = None, *, key: SigningKey, audience: str | list[str] | None) -> None:
        self.backend = keyring.RingBackend(key, typ=self.token_type, issuer=key.environment.issuer, audience=audience)
        super().__init__(token)
        # simplejwt's own claim for what the header's `typ` says; there is no place for two.
        self.payload = {name: value for name, value in self.payload.items() if name is not None}

    def get_token_backend(self) -> TokenBackend:
        return self.backend


class TooLong(Exception):
    """It would have so many scopes, audiences and networks that nobody, we included, would read it."""


@dataclass(frozen=True)
class Place:
    """Where a reader of the JWT may look whether it has been ended meanwhile: bit `index` of the list at `uri`."""

    uri: str
    index: int


def issue(
    token: ApiToken,
    *,
    tenant: Tenant | None,
    now: policy.Effective,
    key: SigningKey,
    audience: str | list[str],
    generation: int,
    status: Place,
    at: datetime,
) -> tuple[str, int]:
    """The signed JWT and its lifetime in seconds: the token type's, but never past the token's end; raises TooLong."""
    expires = at + timedelta(seconds=token.token_type.jwt_lifetime)
    if token.expires_at:
        expires = min(expires, token.expires_at)
    access = AccessJWT(key=key, audience=audience)
    # Whole seconds, rounded down: a verifier without leeway must not see an `iat` in its future.
    access["iat"], access["exp"] = int(at.timestamp()), int(expires.timestamp())
    access["sub"] = access["client_id"] = token.client_id
    access["scope"] = " ".join(sorted(now.permissions))
    access["env"] = token.environment.slug
    access["gen"] = generation
    access["status"] = {"status_list": {"idx": status.index, "uri": status.uri}}
    if tenant is not None:
        access["tenant"] = str(tenant.id)
        if tenant.external_id:
            access["tenant_external_id"] = tenant.external_id
    if now.roles:
        access["roles"] = list(now.roles)
    if token.ip_allowlist:
        access["cidr"] = token.ip_allowlist
    text = str(access)
    if len(text) > keyring.LONGEST_JWT:
        raise TooLong
    return text, access["exp"] - access["iat"]


def looks_like_jwt(text: str) -> bool:
    """Three parts; whether they mean anything is for `read`."""
    return text.count(".") == 2


def read(text: str) -> tuple[dict[str, Any], SigningKey] | None:
    """The claims of a JWT of ours that has begun and not expired, and the key that signed it; None for anything else.

    Nothing in the token but its `kid` is believed before the signature is: not the algorithm, not an address of a key.
    Whom it is meant for (`aud`), and whether the token behind it still lives, is for `authentication`.
    """
    if len(text) > keyring.LONGEST_JWT:
        return None
    try:
        kid = jwt.get_unverified_header(text).get("kid")
    except jwt.InvalidTokenError:
        return None
    if not isinstance(kid, str) or not KID.fullmatch(kid) or (key := keyring.verifying_key(kid)) is None:
        return None
    try:
        access = AccessJWT(text, key=key, audience=None)
    except TokenError:
        return None
    return access.payload, key


def audiences(claims: Mapping[str, Any]) -> frozenset[str]:
    """Its `aud`, which is one string or a list of them (RFC 7519 section 4.1.3); of anything else it is for nobody."""
    named = [claims["aud"]] if isinstance(claims["aud"], str) else claims["aud"]
    is_readable = isinstance(named, list) and all(isinstance(one, str) for one in named)
    return frozenset(named if is_readable else ())
