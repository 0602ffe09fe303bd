"""Signing in to a tenant by its single sign-on: `/t/<tenant>/sign-in/`, the provider, and back.

Everybody is shown the same page for every address, whether or not there is such a tenant; what is there shows by being
used. To go to the provider takes a form of ours (CSRF), so that no link signs anybody in; to come back from it takes
the browser that was sent there: the session keeps a digest of each `state` it was sent with, once, for ten minutes.
"""

import logging
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from allauth.core import ratelimit
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.http import url_has_allowed_host_and_scheme, urlencode
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from accounts import openid
from accounts.confirming import record_vouched, sign_in_vouched
from apitokens import access
from apitokens.access import PortalRequest, client_ip
from apitokens.governance import sso
from apitokens.pages.places import PageRequest
from audit.services import Refusal
from audit.words import later
from tenants.models import SLUG, IdentityProvider, Tenant

logger = logging.getLogger("tallystick.sso")

SENT = "single_sign_on"
SENT_AT_MOST, SENT_FOR = 5, 600
CODE_MAX = 4096
NEXT_MAX = 2_000
UNPROCESSABLE, TOO_MANY, FORBIDDEN, BAD_GATEWAY, GONE = 422, 429, 403, 502, 410


@dataclass(frozen=True, kw_only=True)
class Errand:
    """Why a browser was sent to the provider: to sign in, to show again who is signed in, or to try it out."""

    tenant: str
    voucher: str
    why: str
    next_url: str
    user: str = ""
    at: float = field(default_factory=time.time)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def find(request: PortalRequest) -> HttpResponse:
    """Which tenant somebody wants to sign in to, by the address that they know."""
    named = request.POST.get("tenant", "").strip().lower()
    next_url = _next(request)
    if request.method == "POST" and (slug := _slug_in(named)):
        return redirect(_with_next(slug, next_url))
    context = {"named": named, "next_url": next_url, "is_wrong": request.method == "POST"}
    return render(request, "portal/sign_in/find.html", context, status=UNPROCESSABLE if named else 200)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in(request: PortalRequest, slug: str) -> HttpResponse:
    """The page with the one button; its form sends the browser to the provider."""
    if request.method != "POST":
        return _page(request, slug)
    if not ratelimit.consume(request, action="login"):
        return _page(request, slug, _("That was too often. Wait for a minute, then try again."), status=TOO_MANY)
    provider = provider_at(slug)
    if provider is None:
        reason = _("There is no single sign-on at this address. Check it, or sign in with your e-mail and password.")
        return _page(request, slug, reason, status=UNPROCESSABLE)
    why = "sign-in"
    if request.POST.get("again") and request.user.is_authenticated and request.user.voucher_id == provider.voucher_id:
        why = "again"
    return leave(request, provider, why=why, next_url=_next(request))


def leave(request: PortalRequest | PageRequest, provider: IdentityProvider, *, why: str, next_url: str) -> HttpResponse:
    """The page that takes the browser to the provider: a redirect of a form would need its host in our CSP."""
    slug, state = provider.tenant.slug, openid.new_state()
    try:
        client = sso.client_of(provider)
        published = openid.discover(provider.issuer)
    except openid.ProviderError as error:
        return _failed(request, provider, error, next_url)
    user = str(request.user.pk) if request.user.is_authenticated and why != "sign-in" else ""
    errand = Errand(tenant=slug, voucher=str(provider.voucher_id), why=why, next_url=next_url, user=user)
    _remember(request, state, errand)
    url = openid.address_of(published, client, state, again=why != "sign-in")
    context = {"url": url, "host": urlsplit(url).hostname, "slug": slug}
    return render(request, "portal/sign_in/leave.html", context)


@never_cache
@require_safe
def callback(request: PortalRequest, slug: str) -> HttpResponse:
    """Where the provider sends the browser back to."""
    state = request.GET.get("state", "")
    errand, provider = _take(request, state), provider_at(slug)
    if errand is None or provider is None or (errand.tenant, errand.voucher) != (slug, str(provider.voucher_id)):
        reason = _("This sign-in did not begin in this browser, or is over. Nobody was signed in: begin anew.")
        return _page(request, slug, reason, status=GONE)
    if errand.user and not (request.user.is_authenticated and str(request.user.pk) == errand.user):
        reason = _("Somebody else is signed in here by now. Nothing was changed: begin anew.")
        return _page(request, slug, reason, status=GONE)
    code, at = request.GET.get("code", ""), timezone.now()
    try:
        if not code or "error" in request.GET:
            return _page(request, slug, _cancelled(request), status=UNPROCESSABLE, next_url=errand.next_url)
        if len(code) > CODE_MAX or request.GET.get("iss", provider.issuer) != provider.issuer:
            raise openid.ProviderError(later("It sent back what it can't have meant."))
        identity = openid.identify(sso.client_of(provider), code=code, state=state, at=at)
    except openid.ProviderError as error:
        return _failed(request, provider, error, errand.next_url)
    return WAYS_BACK[errand.why](request, provider, errand, identity, at)


def provider_at(slug: str) -> IdentityProvider | None:
    """That of the tenant, while something works in it."""
    working = IdentityProvider.objects.filter(
        tenant__suspended_at__isnull=True,
        tenant__deleted_at__isnull=True,
        environment__suspended_at__isnull=True,
        environment__deleted_at__isnull=True,
    )
    return working.filter(tenant__slug=slug).select_related(*sso.WITH_CHOOSER).first()


def _signed_in(
    request: PortalRequest, provider: IdentityProvider, errand: Errand, identity: openid.Identity, at: datetime
) -> HttpResponse:
    try:
        came = sso.admit(
            tenant=provider.tenant,
            voucher_id=provider.voucher_id,
            identity=identity,
            at=at,
            ip=client_ip(request),
            request_id=request.request_id,
        )
    except Refusal as refusal:
        return _refused(request, provider.tenant, str(refusal))
    sign_in_vouched(request, came.user, proven_at=came.proven_at)
    return redirect(errand.next_url or _home(provider.tenant))


def _again(
    request: PortalRequest, provider: IdentityProvider, errand: Errand, identity: openid.Identity, at: datetime
) -> HttpResponse:
    asked_at = datetime.fromtimestamp(errand.at, tz=UTC)
    try:
        proven_at = sso.check_same(
            user=request.user, voucher_id=provider.voucher_id, identity=identity, asked_at=asked_at
        )
    except Refusal as refusal:
        return _refused(request, provider.tenant, str(refusal), back_url=errand.next_url)
    record_vouched(request, request.user, proven_at=proven_at)
    messages.success(request, _("You have shown that it is you. Go on where you were."))
    return redirect(errand.next_url or _home(provider.tenant))


def _tried(
    request: PortalRequest, provider: IdentityProvider, errand: Errand, identity: openid.Identity, at: datetime
) -> HttpResponse:
    """What a sign-in would have told us. Nobody is signed in or made by it."""
    context = {
        "identity": identity,
        "provider": provider,
        "no_newcomers": sso.why_no_newcomers(provider, at=at),
        "back_url": errand.next_url,
    }
    return render(request, "portal/sign_in/tried.html", context)


WAYS_BACK = {"sign-in": _signed_in, "again": _again, "try": _tried}


def _home(tenant: Tenant) -> str:
    return reverse("portal:tenant", args=[tenant.slug])


def _page(
    request: PortalRequest, slug: str, reason: str = "", *, status: int = 200, next_url: str | None = None
) -> HttpResponse:
    user = request.user
    shut_out = user.is_authenticated and access.shut_out(user).filter(tenant__slug=slug).exists()
    context = {
        "slug": slug,
        "reason": reason,
        "next_url": _next(request) if next_url is None else next_url,
        "is_shut_out": shut_out,
    }
    return render(request, "portal/sign_in/page.html", context, status=status)


def _failed(
    request: PortalRequest | PageRequest, provider: IdentityProvider, error: openid.ProviderError, next_url: str
) -> HttpResponse:
    """Why is in the log, and for those who may look at the settings; who signs in is told that it was not them."""
    with translation.override(settings.LANGUAGE_CODE):
        logger.warning("single sign-on of tenant %s failed: %s", provider.tenant_id, error)
    slug = provider.tenant.slug
    member = access.memberships_of(request.user).filter(tenant=provider.tenant_id).first() if _is_in(request) else None
    is_keeper = member is not None and "sso:read" in access.of_membership(member, request).permissions
    context = {"slug": slug, "next_url": next_url, "why": str(error) if is_keeper else "", "host": _host(provider)}
    return render(request, "portal/sign_in/failed.html", context, status=BAD_GATEWAY)


def _refused(request: PortalRequest, tenant: Tenant, reason: str, *, back_url: str = "") -> HttpResponse:
    context = {"reason": reason, "tenant": tenant, "slug": tenant.slug, "back_url": back_url}
    return render(request, "portal/sign_in/refused.html", context, status=FORBIDDEN)


def _is_in(request: HttpRequest) -> bool:
    return request.user.is_authenticated


def _host(provider: IdentityProvider) -> str:
    return urlsplit(provider.issuer).hostname or ""


def _cancelled(request: HttpRequest) -> str:
    if request.GET.get("error") == "access_denied":
        return _("Your identity provider let nobody in: you cancelled, or you may not use this application there.")
    return _("Your identity provider did not sign you in. Try again, or ask its administrator.")


def _remember(request: HttpRequest, state: str, errand: Errand) -> None:
    """The latest few; a browser has that many tabs in which somebody signs in."""
    sent = {**_sent(request), openid.digest_of(state): vars(errand)}
    newest = sorted(sent.items(), key=lambda each: -each[1]["at"])[:SENT_AT_MOST]
    request.session[SENT] = dict(newest)


def _take(request: HttpRequest, state: str) -> Errand | None:
    """Each is there once, whatever becomes of it."""
    sent = _sent(request)
    found = sent.pop(openid.digest_of(state), None)
    if found is None:
        return None
    request.session[SENT] = sent
    # Before the provider is asked, which takes its time: the same address opened twice finds it gone.
    request.session.save()
    return Errand(**found)


def _sent(request: HttpRequest) -> dict[str, Any]:
    now = time.time()
    return {key: errand for key, errand in request.session.get(SENT, {}).items() if now - errand["at"] < SENT_FOR}


def _next(request: HttpRequest) -> str:
    """A page of ours, by its path alone."""
    asked = request.POST.get("next") or request.GET.get("next") or ""
    is_ours = asked.startswith("/") and url_has_allowed_host_and_scheme(asked, allowed_hosts=None)
    return asked if is_ours and len(asked) <= NEXT_MAX else ""


def _with_next(slug: str, next_url: str) -> str:
    url = reverse("portal:sign-in", args=[slug])
    return f"{url}?{urlencode({'next': next_url})}" if next_url else url


def _slug_in(named: str) -> str:
    """The tenant's own part of its address, of which people may paste the whole."""
    found = re.search(r"(?:^|/)t/([^/?#]+)", named)
    slug = found[1] if found else named.strip("/")
    return slug if re.fullmatch(SLUG, slug) else ""
