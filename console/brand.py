"""The environment's brand: what its tenants see in place of ours, and how that will look."""

from dataclasses import dataclass

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from apitokens import colours
from apitokens.changing import version_of
from apitokens.colours import DARK, LIGHT, Palette, Scheme, Shades
from apitokens.governance import branding
from apitokens.pages.appearance import logo_url
from apitokens.pages.places import PageRequest
from apitokens.principals import ConsolePrincipal
from audit.services import Refusal
from console.brand_forms import BrandForm
from console.doors import console_page

UNPROCESSABLE = 422


@dataclass(frozen=True)
class Preview:
    """One accent in one scheme, with the contrast of what is drawn with it."""

    label: Promise
    scheme: Scheme
    palette: Palette
    shades: Shades

    @property
    def of_button(self) -> str:
        return _ratio(self.palette.fill, self.scheme.page)

    @property
    def of_label(self) -> str:
        return _ratio(self.palette.on_fill, self.palette.fill)

    @property
    def of_link(self) -> str:
        return _ratio(self.shades.accent, self.scheme.page)


@require_http_methods(["GET", "HEAD", "POST"])
def brand(request: PageRequest, principal: ConsolePrincipal) -> HttpResponse:
    environment = principal.environment
    stored = branding.brand_of(environment)
    form = BrandForm(
        *((request.POST, request.FILES) if request.method == "POST" else ()),
        initial={"name": stored.name, "accent": stored.accent},
        version=version_of(branding.snapshot(stored)),
        has_logo=bool(stored.logo_digest),
    )
    if form.is_valid():
        try:
            branding.change(by=principal, environment=environment, at=timezone.now(), **form.change())
        except Refusal as refusal:
            if not refusal.field and refusal.code != "stale":
                raise
            form.add_refusal(refusal)
        else:
            messages.success(request, _("The brand was saved. Tenants see it from now on."))
            return redirect(request.place.url("brand"))
    context = {
        "form": form,
        "environment": environment,
        "stored": stored,
        "logo_url": logo_url(stored, environment),
        "was_chosen": bool(request.FILES),
        "previews": _previews(stored.accent),
        "settings_url": request.place.url("settings"),
    }
    return render(request, "console/environments/brand.html", context, status=UNPROCESSABLE if form.errors else 200)


def _previews(accent: str) -> list[Preview]:
    if not accent:
        return []
    palette = colours.palette(accent)
    return [
        Preview(gettext_lazy("In light"), LIGHT, palette, palette.light),
        Preview(gettext_lazy("In dark"), DARK, palette, palette.dark),
    ]


def _ratio(one: str, other: str) -> str:
    return f"{int(colours.contrast(one, other) * 100) / 100:.2f}"


urlpatterns = [path("settings/brand/", console_page("environments:read")(brand), name="brand")]
