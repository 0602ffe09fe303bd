"""Who is behind a request, and from where it came."""

import ipaddress

from django.conf import settings
from django.http import HttpRequest

from accounts.models import User
from audit.actors import Actor
from audit.models import ActorKind


class Visit(HttpRequest):
    """What our middleware adds to every request; for annotations."""

    request_id: str


def client_ip(request: HttpRequest) -> str | None:
    """The address of the client: the one that the nearest of our trusted proxies saw, counted from the right.

    With no trusted proxy the header is not looked at; with fewer entries than proxies, or one that is no address, the
    answer is None, and whatever asks for an address refuses.
    """
    address = request.META.get("REMOTE_ADDR", "")
    if settings.TRUSTED_PROXIES:
        hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",")]
        address = hops[-settings.TRUSTED_PROXIES] if len(hops) >= settings.TRUSTED_PROXIES else ""
    try:
        # A zone means nothing to another machine.
        return str(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return None


def user_actor(user: User, request: Visit) -> Actor:
    return Actor(kind=ActorKind.USER, id=user.id, label=str(user), ip=client_ip(request), request_id=request.request_id)
