"""The secrets themselves: how they look, how they are made, how one is proved without being kept.

    <prefix>_<kind>_<id><secret><crc>
    acme_prod_at_1a2B3c4D5e6F + 43 characters (256 bits) + 6 characters of CRC-32, all base62

Kind is `at` (access token) or `cs` (client secret). The id is public; the checksum tells a mistyped or truncated
string from a real one before any database is asked, and lets a scanner find leaks. What is kept is an HMAC-SHA-256 of
the whole string under a numbered pepper that lives outside the database.
"""

import hmac
import re
import secrets
import string
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
ID_LENGTH, SECRET_LENGTH, CHECKSUM_LENGTH = 12, 43, 6
ACCESS_TOKEN, CLIENT_SECRET = "at", "cs"
TOKEN_ID = re.compile(rf"[0-9A-Za-z]{{{ID_LENGTH}}}")
_BODY = ID_LENGTH + SECRET_LENGTH + CHECKSUM_LENGTH
_FORM = re.compile(rf"(?P<prefix>[a-z0-9_]{{2,32}})_(?P<marker>at|cs)_(?P<body>[0-9A-Za-z]{{{_BODY}}})")
_LEAK = re.compile(r"[a-z0-9_]{2,32}_(?:at|cs)_[0-9A-Za-z]{20,}")
LONGEST = 32 + len("_at_") + _BODY


class PepperMissing(Exception):
    """A secret was digested with a pepper that this process does not have: refused, never guessed (R11)."""


@dataclass(frozen=True)
class Parsed:
    """A string of our form with a right checksum. Nothing says yet that such a token exists."""

    prefix: str
    marker: str
    token_id: str


@dataclass(frozen=True)
class Minted:
    """`plaintext` exists once, in the answer that shows it, and is not in `repr`; the rest is what is stored."""

    plaintext: str = field(repr=False)
    digest: bytes
    pepper_id: int
    last_four: str


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), CHECKSUM_LENGTH)


def new_token_id() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(ID_LENGTH))


def mint(*, prefix: str, marker: str, token_id: str, peppers: Mapping[int, bytes]) -> Minted:
    """Make a secret of 256 random bits for the token, digested with the newest pepper; raises PepperMissing."""
    if not peppers:
        raise PepperMissing("no pepper is configured")
    secret = "".join(secrets.choice(ALPHABET) for _ in range(SECRET_LENGTH))
    body = f"{prefix}_{marker}_{token_id}{secret}"
    plaintext = body + _checksum(body)
    pepper_id = max(peppers)
    return Minted(
        plaintext=plaintext,
        digest=digest(plaintext, peppers[pepper_id]),
        pepper_id=pepper_id,
        last_four=plaintext[-4:],
    )


def parse(text: str) -> Parsed | None:
    """What a presented string says of itself, or None if it is not of our form or its checksum is wrong.

    Matched as a whole: a truncated or an extended secret is not one of ours.
    """
    if len(text) > LONGEST or not (form := _FORM.fullmatch(text)):
        return None
    if not hmac.compare_digest(text[-CHECKSUM_LENGTH:], _checksum(text[:-CHECKSUM_LENGTH])):
        return None
    return Parsed(prefix=form["prefix"], marker=form["marker"], token_id=form["body"][:ID_LENGTH])


def digest(plaintext: str, pepper: bytes) -> bytes:
    """32 bytes. A random secret of 256 bits needs a keyed digest, not a slow password hash."""
    return hmac.digest(pepper, plaintext.encode(), sha256)


def matches(plaintext: str, stored: bytes, pepper_id: int, peppers: Mapping[int, bytes]) -> bool:
    """Whether the string is the one that was digested, in constant time; raises PepperMissing."""
    pepper = peppers.get(pepper_id)
    if pepper is None:
        raise PepperMissing(f"pepper {pepper_id} is not configured")
    return hmac.compare_digest(digest(plaintext, pepper), stored)


def redacted(text: str) -> str:
    """The text as it may be said back or logged: without what has the form of a secret, and without half characters."""
    return _LEAK.sub("[redacted]", text).encode("utf-8", "replace").decode()


def leak_pattern(prefix: str) -> str:
    """The regular expression by which a secret scanner finds this environment's secrets."""
    return rf"\b{re.escape(prefix)}_(?:at|cs)_[0-9A-Za-z]{{{_BODY}}}\b"
