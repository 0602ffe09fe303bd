"""Before a secret is made or ended, whoever asks has lately shown who they are: asked here, for both doors.

A form of such an act is not shown before; that it is too old when the form is sent, the service says. Then the person
confirms on a page that carries what they sent, and it is done: nothing has to be filled in again.
"""

from collections.abc import Callable
from dataclasses import replace

from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode

from accounts.confirming import PREFIX, Confirmation, last_proof
from apitokens import ceiling
from apitokens.governance import sso
from apitokens.pages.places import PagePrincipal, PageRequest

View = Callable[..., HttpResponseBase]
FORBIDDEN = 403
# The names, in the portal and in the console, of pages with a form for what `ceiling.check_confirmed` guards.
ASKED_FIRST = frozenset(
    {"token-new", "token-rotate", "token-rotation-complete", "token-rotation-cancel", "token-delete"}
    | {f"{of}sso-{act}" for of in ("", "tenant-") for act in ("edit", "enforce", "remove")}
)
# Somebody else's secret, typed in: asked for again, rather than carried on in a page.
NOT_CARRIED_ON = frozenset({"client_secret"})


def confirmed(view: View, request: PageRequest, principal: PagePrincipal, **named: str) -> HttpResponseBase:
    """The view's answer, or that of whoever has to confirm first."""
    asked = Confirmation(request, request.user)
    if request.method == "POST" and asked.said:
        if not asked.succeeds():
            return _asking(request, asked)
        principal = replace(principal, proven_at=last_proof(request, request.user))
        request.principal = principal
    elif _shows_form(request) and not ceiling.is_confirmed(principal, at=timezone.now()):
        return _first(request, asked)
    try:
        return view(request, principal, **named)
    except ceiling.NotConfirmed:
        return _asking(request, asked)


def _shows_form(request: PageRequest) -> bool:
    found = request.resolver_match
    return request.method in {"GET", "HEAD"} and found is not None and found.url_name in ASKED_FIRST


def _first(request: PageRequest, asked: Confirmation) -> HttpResponse:
    if not asked.ways:
        return _asking(request, asked)
    return redirect(f"{asked.url}?{urlencode({'next': request.get_full_path()})}")


def _asking(request: PageRequest, asked: Confirmation) -> HttpResponse:
    """The form took what was sent, if there is one: what must not be sent back it would have kept."""
    own = {"csrfmiddlewaretoken", "environment"}
    sent = [
        (name, value)
        for name, values in request.POST.lists()
        if name not in own | NOT_CARRIED_ON and not name.startswith(f"{PREFIX}-")
        for value in values
    ]
    passkey = asked.forms.get("credential")
    context = {
        "ways": list(asked.forms.values()),
        "typed": asked.ways - {"credential"},
        "passkey": asked.passkey_options,
        "credential_id": passkey["credential"].auto_id if passkey else "",
        "sent": sent,
        "action": request.get_full_path(),
        "back_url": request.path,
        "sign_in": _at_their_provider(request),
    }
    return render(request, "portal/confirm_again.html", context, status=FORBIDDEN)


def _at_their_provider(request: PageRequest) -> dict[str, str] | None:
    """Where whoever came by single sign-on shows it, and the page of ours that they come back to."""
    provider = sso.vouching_for(request.user)
    if provider is None:
        return None
    return {"url": reverse("portal:sign-in", args=[provider.tenant.slug]), "next": request.get_full_path()}
