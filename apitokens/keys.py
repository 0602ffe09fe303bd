"""Making, naming and reading key pairs. Pure: what is stored, and which key is used when, is for `keyring`."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from accounts import sealing
from audit.words import gettext as _
from audit.words import gettext_noop

# RFC 7638 section 3.2: the members that make up a thumbprint, by key type.
THUMBPRINT_MEMBERS = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n"), "OKP": ("crv", "kty", "x")}
LONGEST_KEY = 8 * 1024
# Members that only a private or a shared key has (RFC 7518 section 6).
PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
RSA_BITS = range(2048, 8192 + 1)
RSA_EXPONENT_BITS = 32
PRIVATE = gettext_noop(
    "This is a private key, which nobody but its owner may have. It was not kept; it has travelled, so make a new pair "
    "and paste the public half."
)


class KeyRefused(ValueError):
    """What was pasted is no public key that we take; the message never says it back."""


@dataclass(frozen=True)
class KeyPair:
    """`public_jwk` is what the JWKS shows; `private_pem` never leaves this process unencrypted."""

    algorithm: str
    kid: str
    public_jwk: dict[str, str]
    private_pem: bytes = field(repr=False)


def _new_pair(algorithm: str) -> tuple[PrivateKeyTypes, dict[str, str]]:
    """The private key object and the public part as a JWK."""
    if algorithm == "RS256":
        rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        return rsa_key, RSAAlgorithm.to_jwk(rsa_key.public_key(), as_dict=True)
    if algorithm == "EdDSA":
        ed_key = ed25519.Ed25519PrivateKey.generate()
        return ed_key, OKPAlgorithm.to_jwk(ed_key.public_key(), as_dict=True)
    ec_key = ec.generate_private_key(ec.SECP256R1())
    return ec_key, ECAlgorithm.to_jwk(ec_key.public_key(), as_dict=True)


def thumbprint(jwk: dict[str, str]) -> str:
    """RFC 7638: SHA-256 over the required members, in lexical order, without white space; base64url."""
    members = {name: jwk[name] for name in THUMBPRINT_MEMBERS[jwk["kty"]]}
    canonical = json.dumps(members, separators=(",", ":"), sort_keys=True).encode()
    return base64.urlsafe_b64encode(hashlib.sha256(canonical).digest()).rstrip(b"=").decode()


def generate(algorithm: str) -> KeyPair:
    """A new pair for ES256, RS256 (2,048 bits) or EdDSA (Ed25519)."""
    private, jwk = _new_pair(algorithm)
    public = {name: value for name, value in jwk.items() if name != "key_ops"}
    kid = thumbprint(public)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    published = {**public, "kid": kid, "use": "sig", "alg": algorithm}
    return KeyPair(algorithm=algorithm, kid=kid, public_jwk=published, private_pem=pem)


def decrypt_private_key(encrypted: bytes, key_encryption_keys: Sequence[str]) -> PrivateKeyTypes:
    """The key object; raises sealing.SealUnreadable."""
    return serialization.load_pem_private_key(sealing.unseal(encrypted, key_encryption_keys), password=None)


def read_public_key(text: str) -> dict[str, str]:
    """A pasted JWK or PEM as the JWK that is stored: public members, `kid` (RFC 7638), `alg` and `use`.

    P-256 for ES256, RSA of at least 2,048 bits for RS256, Ed25519 for EdDSA; raises KeyRefused for anything else.
    """
    text = text.strip()
    if len(text) > LONGEST_KEY:
        raise KeyRefused(_("This is too long for one public key."))
    key = _from_jwk(text) if text.startswith("{") else _from_pem(text)
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        algorithm, jwk = "ES256", ECAlgorithm.to_jwk(key, as_dict=True)
    elif isinstance(key, rsa.RSAPublicKey) and _is_sound(key):
        algorithm, jwk = "RS256", RSAAlgorithm.to_jwk(key, as_dict=True)
    elif isinstance(key, ed25519.Ed25519PublicKey):
        algorithm, jwk = "EdDSA", OKPAlgorithm.to_jwk(key, as_dict=True)
    else:
        raise KeyRefused(_("Use an EC key on P-256, an RSA key of 2,048 to 8,192 bits, or an Ed25519 key."))
    public = {name: str(jwk[name]) for name in THUMBPRINT_MEMBERS[jwk["kty"]]}
    return {**public, "kid": thumbprint(public), "use": "sig", "alg": algorithm}


def _is_sound(key: rsa.RSAPublicKey) -> bool:
    """An exponent of any size would make each verification as slow as whoever pasted it likes."""
    return key.key_size in RSA_BITS and key.public_numbers().e.bit_length() <= RSA_EXPONENT_BITS


def _from_jwk(text: str) -> object:
    try:
        jwk = json.loads(text)
    except (ValueError, RecursionError):
        raise KeyRefused(_("This begins like a JWK but is not readable JSON.")) from None
    if PRIVATE_MEMBERS & set(jwk):
        raise KeyRefused(_(PRIVATE))
    if "keys" in jwk:
        raise KeyRefused(_("This is a set of keys: paste one of them."))
    expected = {"EC": "ES256", "RSA": "RS256", "OKP": "EdDSA"}.get(str(jwk.get("kty")))
    said = "EdDSA" if jwk.get("alg") == "Ed25519" else jwk.get("alg", expected)  # its name since RFC 9864
    if jwk.get("use", "sig") != "sig" or said != expected:
        raise KeyRefused(_("This key is not meant to sign with ES256, RS256 or EdDSA."))
    try:
        return jwt.PyJWK(jwk, algorithm=expected).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        raise KeyRefused(_("This is not a public key as a JWK.")) from None


def _from_pem(text: str) -> object:
    if "PRIVATE KEY" in text:
        raise KeyRefused(_(PRIVATE))
    if "BEGIN CERTIFICATE" in text:
        raise KeyRefused(_("This is a certificate: paste the public key in it (openssl x509 -pubkey -noout)."))
    if "BEGIN PUBLIC KEY" not in text:
        raise KeyRefused(_("Paste a public key as a JWK, or as a PEM that begins with -----BEGIN PUBLIC KEY-----."))
    try:
        return serialization.load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise KeyRefused(_("This is not a readable public key.")) from None
