"""A tenant's pages inside the vendor's own product: for whom its backend opened them, and framed by whom it listed.

Whose pages they are says the portal session alone, which is looked at in every request; nobody is signed in by it.
"""

import hmac
from collections.abc import Callable

from django.http import Http404, HttpRequest, HttpResponse
from django.middleware.csrf import rotate_token
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts import languages
from accounts.confirming import record_vouched
from apitokens import access
from apitokens.access import PortalRequest
from apitokens.governance import portal_sessions
from apitokens.governance.portal_sessions import LONGEST, Closed
from apitokens.models import PortalSession
from apitokens.pages.navigation import PORTAL_TABS
from tenants.models import Environment

FORBIDDEN, TOO_EARLY, SEE_OTHER = 403, 425, 303
# Under which a browser's session has the id of the portal session, and the way back, which outlives it, with the
# environment whose product it leads to.
SESSION_KEY, BACK_KEY = "portal_session", "return_url"
# Of a tenant's addresses those that belong to a section of another name.
SECTION_OF = {"": PortalSession.Section.TOKENS, "leave": PortalSession.Section.MEMBERS}
OPEN_TO_ALL = frozenset({"portal-link", "theme", "language"})


class Door:
    """Middleware. Below an environment that does not work, or is none, there is nothing."""

    def __init__(self, get_response: Callable[..., HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: PortalRequest) -> HttpResponse:
        if not request.embedded_in:
            return self.get_response(request)
        environment = Environment.objects.filter(
            slug=request.embedded_in, suspended_at__isnull=True, deleted_at__isnull=True
        ).first()
        if environment is None:
            raise Http404
        request.branded = environment
        of, return_url = request.session.get(BACK_KEY, ("", ""))
        request.return_url = return_url if of == environment.slug else ""
        if session_id := request.session.get(SESSION_KEY):
            session = portal_sessions.current(session_id, environment=environment, at=timezone.now())
            if session is not None:
                request.portal_session, request.user = session, session.membership.user
        return _framed(self.get_response(request), environment.embedding_origins)

    def process_view(
        self, request: PortalRequest, view: object, args: object, named: dict[str, str]
    ) -> HttpResponse | None:
        found, session = request.resolver_match, request.portal_session
        if not request.embedded_in or found is None or found.url_name in OPEN_TO_ALL:
            return None
        if session is None:
            return _closed(request)
        if found.url_name != "home" and (
            named["slug"] != session.tenant.slug or _section(found.route) not in session.sections
        ):
            raise Http404
        return None


@never_cache
@require_safe
def open_link(request: PortalRequest, key: str) -> HttpResponse:
    """Opened by a person it is used up; by a program that looks ahead it is not.

    Whoever comes back to it in the browser where they opened it goes on there.
    """
    if request.method == "HEAD" or _looks_ahead(request):
        return HttpResponse(status=TOO_EARLY)
    if (session := request.portal_session) and hmac.compare_digest(
        bytes(session.digest), portal_sessions.digest_of(key)
    ):
        return _start(request, session)
    try:
        session = portal_sessions.enter(
            key=key,
            environment=request.branded,
            at=timezone.now(),
            ip=access.client_ip(request),
            request_id=request.request_id,
        )
    except Closed:
        return _closed(request)
    _begin(request, session)
    return _start(request, session)


@never_cache
@require_safe
def home(request: PortalRequest) -> HttpResponse:
    session = request.portal_session
    return _start(request, session) if session else _closed(request)


def _begin(request: PortalRequest, session: PortalSession) -> None:
    """Nothing is left of whoever was here before: neither their session nor the secret of their forms."""
    request.session.flush()
    request.session[SESSION_KEY], request.session[BACK_KEY] = str(session.pk), (request.embedded_in, session.return_url)
    request.session[languages.SESSION_KEY] = session.locale
    request.session.set_expiry(int(LONGEST.total_seconds()))
    request.portal_session, request.user = session, session.membership.user
    record_vouched(request, session.membership.user, proven_at=session.created_at)
    rotate_token(request)


def _start(request: PortalRequest, session: PortalSession) -> HttpResponse:
    """The first of the sections that the person may see; else the first, which names what they lack."""
    principal = access.open_tenant(request, session.tenant.slug)
    tabs = [tab for tab in PORTAL_TABS if tab.name in session.sections]
    first = next((tab for tab in tabs if principal.holds(tab.permission)), tabs[0])
    response = redirect(f"portal:{first.name}", session.tenant.slug)
    response.status_code = SEE_OTHER
    return response


def _closed(request: HttpRequest) -> HttpResponse:
    """The same for a link that is used, old or none, and for a session that is over (R8)."""
    return render(request, "portal/embedded/closed.html", status=FORBIDDEN)


def _section(route: str) -> str:
    """Of a route such as `t/<slug:slug>/tokens/new/` or `t/<slug:slug>/tokens.csv`."""
    name = route.split("/")[2].partition(".")[0]
    return SECTION_OF.get(name, name)


def _framed(response: HttpResponse, origins: list[str]) -> HttpResponse:
    """By these alone; without any it stays what it is elsewhere, framed by nobody."""
    if not origins:
        return response
    response.headers.pop("X-Frame-Options", None)
    response._csp_replace = {"frame-ancestors": origins}  # type: ignore[attr-defined]  # as django-csp's decorator does
    return response


def _looks_ahead(request: HttpRequest) -> bool:
    said = (request.headers.get(name, "") for name in ("Sec-Purpose", "Purpose", "X-Moz"))
    return any("prefetch" in purpose or "prerender" in purpose for purpose in said)
