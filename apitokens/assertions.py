"""The JWT by which a client proves itself with a key of its own (RFC 7523 section 3).

Pure: who the client is, which of its keys are live and whether the assertion was used before is for `authentication`.
The algorithm is that of the registered key. Nothing is fetched, and no key that a header carries is looked at.
"""

import hashlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeGuard

import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from jwt.algorithms import OKPAlgorithm
from jwt.api_jws import PyJWS

# By what a key is for, what `alg` may call it: RFC 9864 gave EdDSA on this curve a name of its own.
NAMES = {"ES256": ("ES256",), "RS256": ("RS256",), "EdDSA": ("EdDSA", "Ed25519")}
ALGORITHMS = tuple(name for names in NAMES.values() for name in names)
# What clients write into `typ`, if anything; what is of another type was signed for something else.
TYPES = {"jwt", "client-authentication+jwt"}
LONGEST = 8 * 1024
# Seconds: for how long one is taken, and by how much a client's clock may be ahead of ours.
LONGEST_LIFETIME, LEEWAY = 300, 30
_JWS = PyJWS(algorithms=list(NAMES))
_JWS.register_algorithm("Ed25519", OKPAlgorithm())
# Its private part is forgotten at once. Verified with where there is no key to try, so that this takes as long (R8).
_DECOY = ec.generate_private_key(ec.SECP256R1()).public_key()
_DECOY_SIGNATURE = encode_dss_signature(2**255, 2**254)


@dataclass(frozen=True, kw_only=True)
class Assertion:
    """What an assertion says of itself; true only if a key of the client that it names signed it."""

    text: str = field(repr=False)
    kid: str | None
    client_id: str
    audiences: frozenset[str]
    expires_at: datetime
    jti_digest: bytes


def read(text: str, *, at: datetime) -> Assertion | None:
    """The assertion, if it has the form and the times that one must have, whoever signed it; else None."""
    if len(text) > LONGEST:
        return None
    try:
        unverified = _JWS.decode_complete(text, options={"verify_signature": False})
        claims = json.loads(unverified["payload"])
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        return None
    kid, typ = unverified["header"].get("kid"), unverified["header"].get("typ")
    if not isinstance(claims, dict) or (ends := _end(claims, at.timestamp())) is None:
        return None
    client_id, jti, aud = claims.get("sub"), claims.get("jti"), claims.get("aud")
    if not isinstance(client_id, str) or not client_id.isprintable() or claims.get("iss") != client_id:
        return None
    if not isinstance(jti, str) or not jti or not _is_of_type(typ):
        return None
    return Assertion(
        text=text,
        kid=kid if isinstance(kid, str) else None,
        client_id=client_id,
        audiences=frozenset(one for one in (aud if isinstance(aud, list) else [aud]) if isinstance(one, str)),
        expires_at=datetime.fromtimestamp(math.ceil(ends), UTC),
        jti_digest=hashlib.sha256(jti.encode("utf-8", "surrogatepass")).digest(),
    )


def signer(assertion: Assertion, jwks: Sequence[Mapping[str, str]]) -> int | None:
    """The index of the key that signed it, or None. At least one signature is verified, key or no key (R8)."""
    if not jwks:
        _verify_with_decoy(assertion.text)
    return next((index for index, jwk in enumerate(jwks) if _is_signed_by(assertion.text, jwk)), None)


def _end(claims: Mapping[str, Any], now: float) -> float | None:
    """When it is taken no more, or None if that is now.

    Five minutes after `iat`, whatever `exp` says beyond: clients that sign for an hour are not worth refusing, and a
    `jti` need not be remembered for longer. Without `iat`, `exp` itself may be no farther than that.
    """
    exp, issued, begins = claims.get("exp"), claims.get("iat"), claims.get("nbf")
    if not all(time is None or _is_between(time, -math.inf, now + LEEWAY) for time in (issued, begins)):
        return None
    if not _is_between(exp, now, sys.float_info.max if issued is not None else now + LONGEST_LIFETIME):
        return None
    ends: float = exp if issued is None else min(exp, issued + LONGEST_LIFETIME)
    return ends if ends > now else None


def _is_between(moment: object, above: float, most: float) -> TypeGuard[float]:
    """Whether it is a number (RFC 7519 section 2) in those bounds."""
    return isinstance(moment, int | float) and not isinstance(moment, bool) and above < moment <= most


def _is_of_type(typ: object) -> bool:
    return typ is None or (isinstance(typ, str) and typ.lower().removeprefix("application/") in TYPES)


def _is_signed_by(text: str, jwk: Mapping[str, str]) -> bool:
    algorithm = jwt.get_unverified_header(text).get("alg")
    if algorithm not in NAMES[jwk["alg"]]:
        _verify_with_decoy(text)
        return False
    key = jwt.PyJWK(dict(jwk), algorithm=jwk["alg"]).key
    try:
        _JWS.decode_complete(text, key=key, algorithms=[algorithm])
    except jwt.InvalidTokenError:
        return False
    return True


def _verify_with_decoy(text: str) -> None:
    try:
        _DECOY.verify(_DECOY_SIGNATURE, text.encode(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return
