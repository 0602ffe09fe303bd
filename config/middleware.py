"""What every request passes: an id, one log line, a bound on its body, and words for what went wrong on the way."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, tzinfo
from uuid import uuid4
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware
from django.utils import timezone, translation
from django.utils.cache import patch_vary_headers
from django.utils.translation import gettext as _

from accounts import languages
from accounts.models import User
from accounts.sealing import SealUnreadable
from apitokens.access import PortalRequest
from apitokens.keyring import NoActiveKey
from audit.services import Refusal
from config import errors

logger = logging.getLogger("tallystick.requests")
OF_MACHINES = ("/api/", "/oauth2/", "/e/", "/.well-known/", "/healthz", "/readyz", "/metrics")
GetResponse = Callable[..., HttpResponse]


def request_log(get_response: GetResponse) -> GetResponse:
    """Gives the request its id, in the answer, the log line and every audit event; the line has no query string."""

    def respond(request: PortalRequest) -> HttpResponse:
        request.request_id = str(uuid4())
        began = time.perf_counter()
        response = get_response(request)
        response["X-Request-Id"] = request.request_id
        # Whatever may be kept says so itself.
        response.setdefault("Cache-Control", "no-store")
        logger.info(
            "request",
            extra={
                "request_id": request.request_id,
                "method": request.method,
                "path": request.path,
                "status": response.status_code,
                "ms": round((time.perf_counter() - began) * 1000, 1),
            },
        )
        return response

    return respond


def body_limit(get_response: GetResponse) -> GetResponse:
    """413 before a byte of a body over 64 KiB is read, 411 for one that does not say how long it is."""

    def respond(request: HttpRequest) -> HttpResponse:
        try:
            length = int(request.META.get("CONTENT_LENGTH") or 0)
        except ValueError:
            length = 0
        if not length and request.headers.get("Transfer-Encoding"):
            # WSGI has no end of such a body: it would be taken for an empty one, and the error be about that.
            detail = _("Say how long the body is, by a Content-Length header: nothing was read.")
            return errors.answer(request, 411, "length_required", detail)
        if length > settings.BODY_LIMIT:
            detail = _("The body is over %(most)s KiB: nothing was read.") % {"most": settings.BODY_LIMIT // 1024}
            return errors.answer(request, 413, "too_large", detail)
        return get_response(request)

    return respond


class CompressedPages(GZipMiddleware):
    """Pages alone: what machines read is small, and static files are compressed once, when they are collected."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if not response.get("Content-Type", "").startswith("text/html"):
            return response
        return super().process_response(request, response)


def language(get_response: GetResponse) -> GetResponse:
    """Pages are in the language of their reader; machines, which compare what they read, are answered in English."""

    def respond(request: HttpRequest) -> HttpResponse:
        if request.path.startswith(OF_MACHINES):
            return get_response(request)
        chosen = languages.of_reader(request)
        with translation.override(chosen):
            response = get_response(request)
        patch_vary_headers(response, ["Accept-Language", "Cookie"])
        response.setdefault("Content-Language", chosen)
        return response

    return respond


def time_zone(get_response: GetResponse) -> GetResponse:
    """Pages show moments in the time zone of whoever is signed in; machines are answered in UTC."""

    def respond(request: HttpRequest) -> HttpResponse:
        if request.path.startswith(OF_MACHINES):
            return get_response(request)
        with timezone.override(_zone_of(request.user)):
            return get_response(request)

    return respond


def _zone_of(user: User | AnonymousUser) -> tzinfo:
    """UTC also where this machine does not know the zone."""
    try:
        return ZoneInfo(user.time_zone) if user.is_authenticated and user.time_zone else UTC
    except (ValueError, OSError, ZoneInfoNotFoundError):
        return UTC


class Refusals:
    """Answers what a view did not answer itself; anything unknown stays a fault of ours, a 500."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if isinstance(error, Refusal):
            return errors.of_refusal(request, error)
        if isinstance(error, OperationalError | InterfaceError):
            logger.error("refused: the database does not answer: %s", type(error).__name__)
            return errors.unavailable(request)
        if isinstance(error, NoActiveKey | SealUnreadable):
            logger.error("refused: %s", error)
            return errors.unavailable(request)
        return None
