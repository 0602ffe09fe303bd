"""What has to be read again and must not lie open in the database, under the key-encryption keys. Pure.

The first of the keys encrypts; the others only decrypt what was written before a rotation.
"""

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class SealUnreadable(Exception):
    """None of the key-encryption keys opens it (R11: it is as good as not there, and nobody is let in without it)."""


def seal(plain: bytes, key_encryption_keys: Sequence[str]) -> bytes:
    return _ring(key_encryption_keys).encrypt(plain)


def unseal(sealed: bytes, key_encryption_keys: Sequence[str]) -> bytes:
    """Raises SealUnreadable."""
    try:
        return _ring(key_encryption_keys).decrypt(sealed)
    except InvalidToken as error:
        raise SealUnreadable("no key-encryption key opens what is stored") from error


def reseal(sealed: bytes, key_encryption_keys: Sequence[str]) -> bytes | None:
    """The same under the first of the keys; None if it is so already; raises SealUnreadable."""
    try:
        Fernet(key_encryption_keys[0]).decrypt(sealed)
    except InvalidToken:
        return seal(unseal(sealed, key_encryption_keys), key_encryption_keys)
    return None


def _ring(key_encryption_keys: Sequence[str]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in key_encryption_keys])
