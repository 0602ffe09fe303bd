"""Pages inside a vendor's own product lie below `/embedded/<environment>/`: there addresses and cookies are their own.

This is the one place that knows it. Further in, a page there is the page it is elsewhere: its address has no prefix,
links that it writes get one, and its cookies go by their usual names, while those of somebody who signed in to the
portal itself in the same browser are not to be seen.
"""

import re
from collections.abc import Callable, Container
from http.cookies import Morsel, SimpleCookie

from django.conf import settings
from django.http import HttpResponse
from django.urls import get_script_prefix, set_script_prefix

from apitokens.access import PortalRequest

ADDRESS = re.compile(r"/embedded/([a-z0-9-]{1,63})(?=/)")
URLCONF = "config.embedded_urls"
HOST_PREFIX = "__Host-"
GetResponse = Callable[..., HttpResponse]


def embedded(get_response: GetResponse) -> GetResponse:
    def respond(request: PortalRequest) -> HttpResponse:
        request.embedded_in, request.portal_session, request.return_url = "", None, ""
        found = ADDRESS.match(request.path_info)
        if found is None:
            return get_response(request)
        request.embedded_in = found[1]
        request.path_info = request.path_info[found.end() :]
        request.urlconf = URLCONF
        request.COOKIES = _inner(request.COOKIES)
        outside = get_script_prefix()
        set_script_prefix(f"{outside.rstrip('/')}{found[0]}/")
        try:
            response = get_response(request)
        finally:
            set_script_prefix(outside)
        response.cookies = _outer(response.cookies)
        return response

    return respond


class PartitionedMorsel(Morsel[str]):
    """A cookie for each site in whose frames it is met. Python writes the attribute itself from 3.14 on."""

    def OutputString(self, attrs: Container[str] | None = None) -> str:
        return f"{super().OutputString(attrs)}; Partitioned"


def _inner(cookies: dict[str, str]) -> dict[str, str]:
    """Those of embedded pages alone, by the names that they have elsewhere."""
    names = {_outer_name(name): name for name in (settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME)}
    prefix = _outer_name("")
    return {names.get(name, name[len(prefix) :]): value for name, value in cookies.items() if name.startswith(prefix)}


def _outer(cookies: SimpleCookie) -> SimpleCookie:
    """As they must be to work in another site's frame. Whether that is so on plain http is for the browser to say."""
    outer = SimpleCookie()
    for name, inner in cookies.items():
        morsel = PartitionedMorsel()
        morsel.set(_outer_name(name), inner.value, inner.coded_value)
        kept = {"expires": inner["expires"], "max-age": inner["max-age"]}
        morsel.update({**kept, "path": "/", "secure": True, "httponly": True, "samesite": "None"})
        outer[morsel.key] = morsel  # which takes a morsel as it is
    return outer


def _outer_name(name: str) -> str:
    host = HOST_PREFIX if settings.SESSION_COOKIE_SECURE else ""
    return f"{host}embedded-{name.removeprefix(HOST_PREFIX)}"
