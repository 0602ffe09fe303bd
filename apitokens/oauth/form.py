"""What a machine asked of an OAuth2 endpoint: one form, in the body, with each parameter once."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import parse_qsl

from django.utils import timezone
from oauthlib.oauth2.rfc6749 import errors

from apitokens.access import PortalRequest, client_ip

FORM = "application/x-www-form-urlencoded"
MOST_PARAMETERS = 50


@dataclass(frozen=True, kw_only=True)
class Asked:
    """`parameters` has what came with a value; `repeatable` the values of those that may come more than once."""

    parameters: Mapping[str, str] = field(repr=False)
    repeatable: Mapping[str, tuple[str, ...]]
    authorization: str = field(repr=False)
    ip: str | None
    request_id: str
    at: datetime


def read(request: PortalRequest, *, repeatable: Collection[str] = ()) -> Asked:
    """The form, once its shape is right; raises InvalidRequestError."""
    if request.content_type != FORM:
        raise errors.InvalidRequestError(
            description=f"Send the parameters as {FORM}, in the body; not as JSON or anything else."
        )
    if request.META.get("QUERY_STRING"):
        raise errors.InvalidRequestError(description="Parameters belong in the body, not in the address.")
    try:
        pairs = parse_qsl(request.body.decode("utf-8"), keep_blank_values=True, max_num_fields=MOST_PARAMETERS)
    except (UnicodeDecodeError, ValueError) as error:
        raise errors.InvalidRequestError(description="The body is not a readable form.") from error
    # RFC 6749 section 3.2: none more than once, known or not; one without a value is as good as not sent.
    once = [name for name, _ in pairs if name not in repeatable]
    if repeated := sorted({name for name in once if once.count(name) > 1}):
        raise errors.InvalidRequestError(description=f"Repeated parameter: {', '.join(repeated)[:200]}.")
    return Asked(
        parameters={name: value for name, value in pairs if value and name not in repeatable},
        repeatable={name: tuple(value for key, value in pairs if key == name and value) for name in repeatable},
        authorization=request.headers.get("Authorization", ""),
        ip=client_ip(request),
        request_id=request.request_id,
        at=timezone.now(),
    )
