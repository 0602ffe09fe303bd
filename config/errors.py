"""What is said when a request fails, in the language of its address: problem details, RFC 6749 JSON, or a page."""

import sys
from http import HTTPStatus
from urllib.parse import urlsplit

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.urls import Resolver404, get_script_prefix, resolve
from django.utils.functional import Promise
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop

from apitokens.oauth import answers
from audit.services import Refusal
from config.api import status_of
from console.doors import Switched
from tenants.policy import PermissionMissing

RETRY_AFTER_SECONDS = 5
NO_STORE = {"Cache-Control": "no-store"}
# allauth says it in English alone.
NOT_TO_BE_CONFIRMED = gettext_noop("Reauthentication not available")
# What a page of this status is called.
TITLES: dict[int, str | Promise] = {
    403: gettext_lazy("You may not do this"),
    409: gettext_lazy("This can't be done now"),
    410: gettext_lazy("This is no longer possible"),
    412: gettext_lazy("Somebody else has changed this"),
    413: gettext_lazy("This is too much at once"),
}


def answer(
    request: HttpRequest,
    status: int,
    code: str,
    detail: str,
    headers: dict[str, str] | None = None,
    permission: str = "",
    back: tuple[str, str] | None = None,
) -> HttpResponse:
    """`back` is the address and the label of a way out, besides the start page."""
    headers = {**NO_STORE, **(headers or {})}
    if request.path.startswith("/oauth2/"):
        error = {500: "server_error", 503: "temporarily_unavailable"}.get(status, "invalid_request")
        return answers.refusal(error, detail, status, headers)
    if request.path.startswith("/api/"):
        problem = {
            "type": f"urn:tallystick:problem:{code}",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
            "code": code,
        }
        return JsonResponse(problem, status=status, content_type="application/problem+json", headers=headers)
    template = f"{status}.html" if status in {400, 403, 404} else "refused.html"
    context = {
        "reason": "" if permission else detail,
        "status": status,
        "title": TITLES.get(status, gettext_lazy("This was refused")),
        "permission": permission,
        "is_of_console": request.path.startswith("/console/"),
        "back": back,
    }
    return HttpResponse(render_to_string(template, context, request), status=status, headers=headers)


def of_refusal(request: HttpRequest, refusal: Refusal) -> HttpResponse:
    """A refusal that no form took: as a page that names the permission or the reason."""
    permission = refusal.permission if isinstance(refusal, PermissionMissing) else ""
    return answer(
        request, status_of(refusal), refusal.code, str(refusal), permission=permission, back=_back(request, refusal)
    )


def _back(request: HttpRequest, refusal: Refusal) -> tuple[str, str] | None:
    """Where they came from, if that is a page of ours; else the nearest address above this one."""
    principal = getattr(request, "principal", None)
    if isinstance(refusal, Switched) and principal is not None:
        # What was meant for the one environment opens there anew.
        above = _above(request.path)
        return (above, _("Open it in %(name)s") % {"name": principal.environment.name}) if above else None
    came = request.headers.get("Referer", "")
    if url_has_allowed_host_and_scheme(came, {request.get_host()}, require_https=request.is_secure()):
        parts = urlsplit(came)
        is_elsewhere = request.method not in {"GET", "HEAD"} or parts.path != request.path
        if is_elsewhere and parts.path != "/" and _is_page(parts.path):
            return parts.path + (f"?{parts.query}" if parts.query else ""), _("Back")
    above = _above(request.path)
    return (above, _("Back")) if above else None


def _above(path: str) -> str:
    """The nearest page that this address is below; empty if that is the start page alone."""
    while (path := path.rstrip("/").rpartition("/")[0] + "/") != "/":
        if _is_page(path):
            return path
    return ""


def _is_page(path: str) -> bool:
    try:
        resolve(path.removeprefix(get_script_prefix().rstrip("/")))
    except Resolver404:
        return False
    return True


def unavailable(request: HttpRequest) -> HttpResponse:
    """503: never 401 for a credential that may be good (R11). Said without a query: the database may be what failed."""
    detail = _("The service lacks something that it needs to answer. Try again in a few seconds.")
    headers = {**NO_STORE, "Retry-After": str(RETRY_AFTER_SECONDS)}
    if request.path.startswith(("/oauth2/", "/api/")):
        return answer(request, 503, "unavailable", detail, headers)
    return HttpResponse(detail, status=503, content_type="text/plain; charset=utf-8", headers=headers)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return answer(request, 400, "bad_request", _("The request can't be read."))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return answer(request, 404, "not_found", _("There is no such thing here, or it is not yours."))


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    said = str(exception)
    return answer(request, 403, "permission_denied", _(said) if said else _("You may not do this."))


def server_error(request: HttpRequest) -> HttpResponse:
    """Where a middleware asks the database, nothing has answered for it yet."""
    if isinstance(sys.exc_info()[1], OperationalError | InterfaceError):
        return unavailable(request)
    if request.path.startswith(("/oauth2/", "/api/")):
        return answer(request, 500, "server_error", "Something failed on our side; it is in our log.")
    # Without the request: whatever broke may be in a context processor.
    return HttpResponse(render_to_string("500.html"), status=500, headers=NO_STORE)
