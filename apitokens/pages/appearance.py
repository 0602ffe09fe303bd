"""How pages look to whoever asks: in the theme of their choice, and under the brand of the tenant's vendor."""

from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from django.conf import settings
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.functional import SimpleLazyObject
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST, require_safe

from accounts import languages
from accounts.visits import Visit
from apitokens.governance import branding
from apitokens.pages.places import outside
from tenants.models import Brand, Environment

THEME_COOKIE = "theme"
A_YEAR = 365 * 24 * 3600
# Its address changes with what is behind it.
FOR_EVER = f"public, max-age={A_YEAR}, immutable"


class Theme(StrEnum):
    SYSTEM = "system"
    LIGHT = "light"
    DARK = "dark"


@dataclass(frozen=True)
class ShownBrand:
    """`logo_url` and `stylesheet_url` are empty where ours is shown."""

    name: str
    logo_url: str
    stylesheet_url: str


def appearance(request: HttpRequest) -> dict[str, object]:
    """A context processor; asks the database only when a template asks it."""
    environment: Environment | None = getattr(request, "branded", None)
    return {
        "theme": _theme(request.COOKIES.get(THEME_COOKIE, "")),
        "languages": languages.offered(request),
        "brand": SimpleLazyObject(lambda: _shown(environment)) if environment else None,
    }


@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    """Keeps the choice in a cookie, for a year, and goes back to where it was made."""
    chosen, response = _theme(request.POST.get("theme", "")), redirect(_came_from(request))
    if chosen == Theme.SYSTEM:
        response.delete_cookie(THEME_COOKIE, samesite="Lax")
    else:
        _keep(response, THEME_COOKIE, chosen)
    return response


@require_POST
def language(request: Visit) -> HttpResponse:
    """Keeps the choice with whoever is signed in, and in a cookie for a year, and goes back to where it was made."""
    chosen, response = languages.supported(request.POST.get("language", "")), redirect(_came_from(request))
    if not chosen:
        return response
    if request.user.is_authenticated:
        languages.choose(request.user, request, chosen)
    _keep(response, settings.LANGUAGE_COOKIE_NAME, chosen)
    return response


@require_safe
def logo(request: HttpRequest, environment: str, digest: str) -> HttpResponse:
    brand = _stored(environment).filter(logo_digest=digest).first()
    if brand is None or brand.logo is None:
        raise Http404
    return HttpResponse(bytes(brand.logo), content_type=brand.logo_type, headers={"Cache-Control": FOR_EVER})


@require_safe
def stylesheet(request: HttpRequest, environment: str, digest: str) -> HttpResponse:
    brand = _stored(environment).exclude(accent="").defer("logo").first()
    css = branding.stylesheet(brand.accent).encode() if brand else b""
    if brand is None or branding.digest(css) != digest:
        raise Http404
    return HttpResponse(css, content_type="text/css; charset=utf-8", headers={"Cache-Control": FOR_EVER})


def logo_url(brand: Brand, environment: Environment) -> str:
    return outside("brand-logo", environment.slug, brand.logo_digest) if brand.logo_digest else ""


def _keep(response: HttpResponse, cookie: str, chosen: str) -> None:
    is_secure = settings.SESSION_COOKIE_SECURE
    response.set_cookie(cookie, chosen, max_age=A_YEAR, secure=is_secure, httponly=True, samesite="Lax")


def _came_from(request: HttpRequest) -> str:
    """The page of ours that this was sent from, as a path; else the start page."""
    came = request.headers.get("Referer", "")
    if not url_has_allowed_host_and_scheme(came, {request.get_host()}, require_https=request.is_secure()):
        return "/"
    parts = urlsplit(came)
    back = parts.path + (f"?{parts.query}" if parts.query else "")
    # A path may begin as another host's address does.
    return back if url_has_allowed_host_and_scheme(back, allowed_hosts=None) else "/"


def _theme(name: str) -> Theme:
    return Theme(name) if name in set(Theme) else Theme.SYSTEM


def _stored(slug: str) -> QuerySet[Brand]:
    return Brand.objects.filter(environment__slug=slug, environment__deleted_at__isnull=True)


def _shown(environment: Environment) -> ShownBrand | None:
    brand = branding.brand_of(environment)
    if not (brand.name or brand.accent):
        return None
    css = branding.stylesheet(brand.accent).encode() if brand.accent else b""
    return ShownBrand(
        name=brand.name,
        logo_url=logo_url(brand, environment),
        stylesheet_url=outside("brand-stylesheet", environment.slug, branding.digest(css)) if css else "",
    )
