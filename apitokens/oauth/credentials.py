"""What a client sent to prove itself: HTTP Basic, or `client_id` and `client_secret` in the body, never both."""

import base64
import binascii
from dataclasses import dataclass, field
from urllib.parse import unquote_plus

from oauthlib.common import Request


class Refused(Exception):
    """The credentials can't be read, or came in two ways at once."""


@dataclass(frozen=True)
class Presented:
    client_id: str
    secret: str | None = field(repr=False)
    used_basic: bool


def decode_basic(value: str) -> tuple[str, str]:
    """The id and secret of an HTTP Basic credential; raises Refused.

    RFC 6749 section 2.3.1 has both form-encoded, and many clients send them raw. Ours hold nothing that decoding changes,
    so decoding always is right.
    """
    try:
        text = base64.b64decode(value, validate=True).decode("utf-8")
    except (binascii.Error, ValueError) as error:
        raise Refused("The Basic credentials are not base64 of id:secret.") from error
    client_id, colon, secret = text.partition(":")
    if not colon:
        raise Refused("The Basic credentials have no colon between id and secret.")
    return unquote_plus(client_id), unquote_plus(secret)


def presented(request: Request) -> Presented:
    """Raises Refused; `secret` is None when there were no credentials at all."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    in_body = request.client_secret is not None
    if not scheme:
        return Presented(request.client_id or "", request.client_secret, used_basic=False)
    if scheme.lower() != "basic":
        raise Refused("The token endpoint takes HTTP Basic or a secret in the body, no other scheme.")
    if in_body:
        raise Refused("Credentials in the header and in the body: send them in one place.")
    client_id, secret = decode_basic(value.strip())
    if request.client_id and request.client_id != client_id:
        raise Refused("The client_id in the body is not the one in the header.")
    return Presented(client_id, secret, used_basic=True)
