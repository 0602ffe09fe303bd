"""Who verifies JWTs offline and looks into the status list: as the documentation tells a resource server to.

It holds what it may for as long as it may: the list for its `ttl`, behind an HTTP cache that keeps it for its max-age.
"""

import time
import zlib
from base64 import urlsafe_b64decode
from dataclasses import dataclass, field

import jwt

VALID, INVALID = 0, 1
MEDIA_TYPE = "application/statuslist+jwt"


class NoStatement(Exception):
    """The list says nothing about the token, which is then to be refused."""


class Keys:
    """The issuer's key set, fetched once and then again for a key that it does not have (as PyJWKClient does)."""

    def __init__(self, fetch):
        self.fetch, self.held = fetch, fetch()

    def __getitem__(self, kid):
        try:
            return self.held[kid]
        except KeyError:
            self.held = self.fetch()
            return self.held[kid]


def status_at(claims: dict, index: int) -> int:
    """The status in a list's verified claims (section 4.1): the least significant bit first."""
    held = claims["status_list"]
    compressed = held["lst"] + "=" * (-len(held["lst"]) % 4)
    octets = zlib.decompress(urlsafe_b64decode(compressed))
    per_octet = 8 // held["bits"]
    if not 0 <= index < len(octets) * per_octet:
        raise NoStatement("the index is beyond the list")
    octet, place = divmod(index, per_octet)
    return octets[octet] >> place * held["bits"] & (1 << held["bits"]) - 1


def verified(text: str, *, uri: str, issuer: str, keys: Keys | jwt.PyJWKSet) -> dict:
    """The claims of a list (section 8.3), by the key set of whoever issued the JWT that names it."""
    header = jwt.get_unverified_header(text)
    if header["typ"] != "statuslist+jwt":
        raise NoStatement("it is no status list")
    key = keys[header["kid"]]
    required = ["sub", "iat", "exp", "ttl", "status_list"]
    return jwt.decode(
        text, key, algorithms=[key.algorithm_name], issuer=issuer, subject=uri, options={"require": required}
    )


@dataclass
class HTTPCache:
    """Keeps an answer as long as it says, asks whether it has changed, and hands out what it has (RFC 9111)."""

    ask: object
    stored: dict = field(default_factory=dict)

    def get(self, uri: str) -> str:
        text, until, etag = self.stored.get(uri, (None, 0, None))
        if time.time() < until:
            return text
        answer = self.ask(uri, {"Accept": MEDIA_TYPE, **({"If-None-Match": etag} if etag else {})})
        if answer.status_code == 200:
            assert answer.headers["Content-Type"] == MEDIA_TYPE
            text = answer.content.decode()
        elif answer.status_code != 304:
            raise NoStatement(f"the list can't be fetched: {answer.status_code}")
        directives = dict(each.strip().partition("=")[::2] for each in answer.headers["Cache-Control"].split(","))
        self.stored[uri] = (text, time.time() + int(directives["max-age"]), answer.headers["ETag"])
        return text


@dataclass
class Reader:
    """Keeps a list for its `ttl` from when it got it, and never beyond its `exp`."""

    fetch: object
    keys: Keys | jwt.PyJWKSet
    kept: dict = field(default_factory=dict)

    def status(self, access: str) -> int:
        """Of a JWT that has been verified otherwise."""
        claims = jwt.decode(access, options={"verify_signature": False})
        place = claims["status"]["status_list"]
        held, until = self.kept.get(place["uri"], (None, 0))
        if time.time() > until or time.time() >= held["exp"]:
            held = verified(self.fetch(place["uri"]), uri=place["uri"], issuer=claims["iss"], keys=self.keys)
            self.kept[place["uri"]] = (held, time.time() + held["ttl"])
        return status_at(held, place["idx"])
