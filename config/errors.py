"""What is said when a request fails, in the language of its address: problem details, RFC 6749 JSON, or a page."""

from http import HTTPStatus

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string

from audit.services import Refusal
from config.api import status_of
from tenants.policy import PermissionMissing

RETRY_AFTER_SECONDS = 5
NO_STORE = {"Cache-Control": "no-store"}


def answer(
    request: HttpRequest,
    status: int,
    code: str,
    detail: str,
    headers: dict[str, str] | None = None,
    permission: str = "",
) -> HttpResponse:
    headers = {**NO_STORE, **(headers or {})}
    if request.path.startswith("/oauth2/"):
        body = {"error": "temporarily_unavailable" if status >= 500 else "invalid_request", "error_description": detail}
        return JsonResponse(body, status=status, headers=headers)
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
    title = HTTPStatus(status).phrase
    context = {"reason": "" if permission else detail, "status": status, "title": title, "permission": permission}
    return HttpResponse(render_to_string(template, context, request), status=status, headers=headers)


def of_refusal(request: HttpRequest, refusal: Refusal) -> HttpResponse:
    """A refusal that no form took: as a page that names the permission or the reason."""
    permission = refusal.permission if isinstance(refusal, PermissionMissing) else ""
    return answer(request, status_of(refusal), refusal.code, str(refusal), permission=permission)


def unavailable(request: HttpRequest) -> HttpResponse:
    """503: never 401 for a credential that may be good (R11). Said without a query: the database may be what failed."""
    detail = "The service lacks something that it needs to answer. Try again in a few seconds."
    headers = {**NO_STORE, "Retry-After": str(RETRY_AFTER_SECONDS)}
    if request.path.startswith(("/oauth2/", "/api/")):
        return answer(request, 503, "unavailable", detail, headers)
    return HttpResponse(detail, status=503, content_type="text/plain; charset=utf-8", headers=headers)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return answer(request, 400, "bad_request", "The request can't be read.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return answer(request, 404, "not_found", "There is no such thing here, or it is not yours.")


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return answer(request, 403, "permission_denied", str(exception) or "You may not do this.")


def server_error(request: HttpRequest) -> HttpResponse:
    if request.path.startswith(("/oauth2/", "/api/")):
        return answer(request, 500, "server_error", "Something failed on our side; it is in our log.")
    # Without the request: whatever broke may be in a context processor.
    return HttpResponse(render_to_string("500.html"), status=500, headers=NO_STORE)
