"""HTTP Basic as clients send it: the one reader for the token endpoint and for the API."""

import base64
import binascii
from urllib.parse import unquote_plus

from apitokens import credentials


class Unreadable(Exception):
    """Not the base64 of id:secret; the message never says back what was sent."""


def decode(value: str) -> tuple[str, str]:
    """The id and secret of an HTTP Basic credential; raises Unreadable.

    RFC 6749 section 2.3.1 has both form-encoded, and many clients send them raw. Ours hold nothing that decoding
    changes, so decoding always is right.
    """
    try:
        text = base64.b64decode(value, validate=True).decode("utf-8")
    except (binascii.Error, ValueError) as error:
        raise Unreadable("The Basic credentials are not base64 of id:secret.") from error
    client_id, colon, secret = text.partition(":")
    if not colon:
        raise Unreadable("The Basic credentials have no colon between id and secret.")
    client_id, secret = unquote_plus(client_id), unquote_plus(secret)
    if credentials.parse(client_id):
        raise Unreadable(
            "This secret came where the client id belongs: Basic takes both, an access token goes as Bearer."
        )
    return client_id, secret
