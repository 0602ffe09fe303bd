"""The environment's ring of signing keys, to look at: never a private part."""

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from apitokens import keyring
from apitokens.models import SigningKey
from apitokens.pages.places import PageRequest
from apitokens.principals import ConsolePrincipal
from console.doors import console_page

STATES = {
    SigningKey.State.PUBLISHED: (_("Published"), _("Verifiers learn it; it does not sign yet.")),
    SigningKey.State.ACTIVE: (_("Active"), _("Signs every JWT.")),
    SigningKey.State.RETIRING: (_("Retiring"), _("Signs no more; what it signed is still accepted.")),
    SigningKey.State.RETIRED: (_("Retired"), _("Nothing that it signed is accepted.")),
    SigningKey.State.COMPROMISED: (_("Compromised"), _("Out of the JWKS; nothing that it signed is accepted.")),
}


@require_safe
def keys(request: PageRequest, principal: ConsolePrincipal) -> HttpResponse:
    ring = keyring.ring(principal.environment)
    rows = [
        {"key": key, "state": key.state, "label": STATES[SigningKey.State(key.state)][0],
         "help": STATES[SigningKey.State(key.state)][1]}
        for key in ring
    ]  # fmt: skip
    return render(request, "console/keys.html", {"keys": rows, "environment": principal.environment})


urlpatterns = [path("keys/", console_page("environments:read")(keys), name="keys")]
