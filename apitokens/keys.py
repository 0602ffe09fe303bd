"""Making, naming and wrapping key pairs. Pure: what is stored, and which key is used when, is for `keyring`."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

# RFC 7638 section 3.2: the members that make up a thumbprint, by key type.
THUMBPRINT_MEMBERS = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n"), "OKP": ("crv", "kty", "x")}


class KeyUnreadable(Exception):
    """A private key could not be decrypted with any of the key-encryption keys (R11: nothing is signed)."""


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


def encrypt(plain: bytes, key_encryption_keys: Sequence[str]) -> bytes:
    """Under the first of the keys; the others only decrypt what was written before a rotation."""
    return MultiFernet([Fernet(key) for key in key_encryption_keys]).encrypt(plain)


def decrypt_private_key(encrypted: bytes, key_encryption_keys: Sequence[str]) -> PrivateKeyTypes:
    """The key object; raises KeyUnreadable."""
    try:
        pem = MultiFernet([Fernet(key) for key in key_encryption_keys]).decrypt(bytes(encrypted))
    except InvalidToken as error:
        raise KeyUnreadable("no key-encryption key opens this signing key") from error
    return serialization.load_pem_private_key(pem, password=None)
