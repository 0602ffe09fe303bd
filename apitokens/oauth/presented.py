"""What a client sent to prove itself: HTTP Basic, or `client_id` and `client_secret` in the body, never both."""

from dataclasses import dataclass, field

from oauthlib.common import Request

from apitokens import basic


class Refused(Exception):
    """The credentials can't be read, or came in two ways at once."""


@dataclass(frozen=True)
class Presented:
    client_id: str
    secret: str | None = field(repr=False)
    used_basic: bool


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
    try:
        client_id, secret = basic.decode(value.strip())
    except basic.Unreadable as error:
        raise Refused(str(error)) from error
    if request.client_id and request.client_id != client_id:
        raise Refused("The client_id in the body is not the one in the header.")
    return Presented(client_id, secret, used_basic=True)
