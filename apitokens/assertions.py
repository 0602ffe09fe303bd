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
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
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
# As many keys as a client may have at a time; so many are tried, whoever it is (R8).
TRIED = 2
# Tried where there is no key, or one for another algorithm. Their private parts are forgotten at once.
_DECOYS: dict[str, Mapping[str, Any]] = {
    "ES256": ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True),
    "RS256": RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048).public_key(), as_dict=True),
    "EdDSA": OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate().public_key(), as_dict=True),
}


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
    """The index of the key that signed it, or None.

    The work depends on the algorithm that its header names alone, not on which keys there are or which of them signed
    (R8).
    """
    name = str(jwt.get_unverified_header(assertion.text).get("alg"))
    algorithm = next((algorithm for algorithm, names in NAMES.items() if name in names), None)
    if algorithm is None:
        return None
    decoy = _DECOYS[algorithm]
    known = [jwk if jwk["alg"] == algorithm else decoy for jwk in jwks]
    tried = [*known, *[decoy] * (TRIED - len(known))]
    signed = [_is_signed_by(assertion.text, jwt.PyJWK(dict(jwk), algorithm=algorithm), name) for jwk in tried]
    return signed.index(True) if True in signed else None


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


def _is_signed_by(text: str, key: jwt.PyJWK, name: str) -> bool:
    try:
        _JWS.decode_complete(text, key=key.key, algorithms=[name])
    except jwt.InvalidTokenError:
        return False
    return True
