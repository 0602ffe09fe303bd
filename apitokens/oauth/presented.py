"""What a caller sent to prove itself: one of the ways there are, never two."""

from dataclasses import dataclass, field

from oauthlib.oauth2.rfc6749 import errors

from apitokens import basic
from apitokens.oauth.form import Asked

# RFC 7523 section 2.2.
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
BASIC_CHALLENGE = 'Basic realm="token endpoint", charset="UTF-8"'


class WrongClient(errors.InvalidClientError):
    """RFC 6749 section 5.2: 401 with a challenge if the client used the Authorization header, else 400."""

    def __init__(self, description: str, *, in_header: bool) -> None:
        super().__init__(description=description, status_code=401 if in_header else 400)
        self.in_header = in_header

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": BASIC_CHALLENGE} if self.in_header else {}


class Unreadable(WrongClient):
    """Credentials were sent in the header, in a way that nobody can read."""


@dataclass(frozen=True)
class ClientSecret:
    client_id: str
    secret: str = field(repr=False)
    in_header: bool


@dataclass(frozen=True)
class ClientAssertion:
    """A JWT that the client signed (RFC 7523). `client_id` is the one beside it, if any."""

    client_id: str | None
    assertion: str = field(repr=False)


@dataclass(frozen=True)
class BearerToken:
    token: str = field(repr=False)


def presented(asked: Asked) -> ClientSecret | ClientAssertion | BearerToken:
    """Raises InvalidRequestError, WrongClient, or Unreadable, which counts as a wrong credential."""
    sent = asked.parameters
    ways = [asked.authorization, sent.get("client_secret"), sent.get("client_assertion")]
    if sum(map(bool, ways)) > 1:
        raise errors.InvalidRequestError(description="Credentials in two ways at once: send them in one.")
    if asked.authorization:
        return _in_header(asked)
    if "client_assertion" in sent or "client_assertion_type" in sent:
        return _assertion(asked)
    if "client_secret" in sent:
        return ClientSecret(sent.get("client_id", ""), sent["client_secret"], in_header=False)
    raise WrongClient(
        "No client credentials: send them as HTTP Basic, in the body or as a client_assertion.", in_header=False
    )


def _in_header(asked: Asked) -> ClientSecret | BearerToken:
    scheme, _, value = asked.authorization.partition(" ")
    if scheme.lower() == "bearer":
        return BearerToken(value.strip())
    if scheme.lower() != "basic":
        raise Unreadable("This scheme is not served: use HTTP Basic.", in_header=True)
    try:
        client_id, secret = basic.decode(value.strip())
    except basic.Unreadable as error:
        raise Unreadable(str(error), in_header=True) from error
    if asked.parameters.get("client_id", client_id) != client_id:
        raise errors.InvalidRequestError(description="The client_id in the body is not the one in the header.")
    return ClientSecret(client_id, secret, in_header=True)


def _assertion(asked: Asked) -> ClientAssertion:
    sent = asked.parameters
    if "client_assertion" not in sent or "client_assertion_type" not in sent:
        raise errors.InvalidRequestError(description="client_assertion and client_assertion_type belong together.")
    if sent["client_assertion_type"] != JWT_BEARER:
        raise WrongClient(f"The client_assertion_type that is served is {JWT_BEARER}.", in_header=False)
    return ClientAssertion(sent.get("client_id"), sent["client_assertion"])
