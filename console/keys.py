"""The environment's ring of signing keys: how each came and went, the next one, and what to do when one has leaked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from apitokens import keyring
from apitokens.governance import signing_keys
from apitokens.governance.signing_keys import TYPED
from apitokens.models import SigningKey
from apitokens.pages.paging import page_of
from apitokens.pages.places import PageRequest
from apitokens.pages.words import in_words
from apitokens.paging import SigningKeyPages
from apitokens.principals import ConsolePrincipal
from console.confirming import Question, ask
from console.doors import console_page

FORM = ["GET", "HEAD", "POST"]
# The worker comes each minute: a key that is due for longer waits for one that does not run.
A_ROUND = timedelta(minutes=2)
State = SigningKey.State
STATES: Mapping[State, tuple[Promise, Promise, str]] = {
    State.PUBLISHED: (gettext_lazy("Published"), gettext_lazy("Verifiers learn it; it does not sign yet."), "expired"),
    State.ACTIVE: (gettext_lazy("Active"), gettext_lazy("Signs every JWT."), "usable"),
    State.RETIRING: (
        gettext_lazy("Retiring"),
        gettext_lazy("Signs no more; what it signed is still accepted."),
        "disabled",
    ),
    State.RETIRED: (gettext_lazy("Retired"), gettext_lazy("Nothing that it signed is alive any more."), "disabled"),
    State.COMPROMISED: (
        gettext_lazy("Compromised"),
        gettext_lazy("Out of the JWKS; nothing that it signed is accepted."),
        "refused",
    ),
}


@dataclass(frozen=True, kw_only=True)
class KeyRow:
    """`moments` are what it has been through and what is before it, in order: in words, and when."""

    key: SigningKey
    label: Promise
    help: str | Promise
    tone: str
    moments: Sequence[tuple[str, datetime]]
    compromised_url: str


@require_safe
def keys(request: PageRequest, principal: ConsolePrincipal) -> HttpResponse:
    environment, pages, now = principal.environment, SigningKeyPages(), timezone.now()
    page = page_of(pages, keyring.ring(environment), request)
    ends = keyring.ends_of(page)
    ring = {key.state: key for key in keyring.ring(environment).filter(state__in=keyring.SIGNING)}
    waiting = ring.get(State.PUBLISHED)
    newest = waiting or ring.get(State.ACTIVE)
    context = {
        "environment": environment,
        "keys": [_row(request, key, ends.get(key.id), now) for key in page],
        "is_waiting": waiting is not None,
        "has_other_algorithm": newest is not None and newest.algorithm != environment.signing_algorithm,
        "kept_for": in_words(settings.JWKS_MAX_AGE),
        "lead": _lead(),
        "next_url": pages.get_next_link(),
        "previous_url": pages.get_previous_link(),
    }
    return render(request, "console/keys.html", context)


@require_http_methods(FORM)
def rotate(request: PageRequest, principal: ConsolePrincipal) -> HttpResponse:
    environment = principal.environment
    back = request.place.url("keys")
    waiting = keyring.ring(environment).filter(state=State.PUBLISHED).first()
    question = Question(
        permission="signing-keys:create",
        heading=_("Rotate the signing key?"),
        points=[
            _("A new %(algorithm)s key is published now, in the JWKS, and signs nothing yet.")
            % {"algorithm": environment.signing_algorithm},
            _(
                "In %(lead)s, when everybody who verifies has met it, it takes over. "
                "The key that signs now goes on until then."
            )
            % {"lead": _lead()},
            _("The old key verifies until the last JWT that it signed has expired: none is refused."),
        ],
        submit_label=_("Rotate now"),
        back_url=back,
        back_label=_("Signing keys"),
        done=_("The next key is published. It signs in %(lead)s.") % {"lead": _lead()},
        done_url=back,
        tone="primary",
        impossible=str(signing_keys.SuccessorWaits(waiting)) if waiting else "",
    )
    return ask(
        request,
        principal,
        question,
        lambda _typed: signing_keys.rotate(by=principal, environment=environment, at=timezone.now()),
    )


@require_http_methods(FORM)
def compromised(request: PageRequest, principal: ConsolePrincipal, kid: str) -> HttpResponse:
    key = signing_keys.find(principal.environment, kid)
    if key is None:
        raise Http404
    back = request.place.url("keys")
    question = Question(
        permission="signing-keys:delete",
        heading=_("Is the key “%(kid)s…” compromised?") % {"kid": kid[:TYPED]},
        warning=_("There is no undo."),
        points=_consequences(keyring.ring(principal.environment), key),
        submit_label=_("Declare it compromised"),
        back_url=back,
        back_label=_("Signing keys"),
        done=_("The key is dead, and with it every JWT that it signed."),
        done_url=back,
        typed=kid[:TYPED],
        impossible="" if key.state in keyring.VERIFYING else _("Nothing that it signed is believed any more."),
    )
    return ask(
        request,
        principal,
        question,
        lambda typed: signing_keys.compromise(by=principal, key=key, typed=typed, at=timezone.now()),
    )


def _row(request: PageRequest, key: SigningKey, until: datetime | None, now: datetime) -> KeyRow:
    label, help_text, tone = STATES[State(key.state)]
    is_late = key.state == State.PUBLISHED and key.active_from is not None and key.active_from + A_ROUND < now
    return KeyRow(
        key=key,
        label=label,
        help=_("It should sign by now: is the worker running? Until then the active key goes on.")
        if is_late
        else help_text,
        tone=tone,
        moments=_moments(key, until),
        compromised_url=request.place.url("key-compromised", key.kid) if key.state in keyring.VERIFYING else "",
    )


def _moments(key: SigningKey, until: datetime | None) -> list[tuple[str, datetime]]:
    begins = {State.PUBLISHED: _("Signs from"), State.ACTIVE: _("Signs since")}.get(State(key.state), _("Signed from"))
    ended = _("Retired") if key.state == State.RETIRED else _("Declared compromised")
    told = [
        (_("Published"), key.created_at),
        (begins, key.active_from),
        (_("Signed until"), key.retiring_from),
        (_("Verifies until"), until),
        (ended, key.ended_at),
    ]
    return [(words, at) for words, at in told if at is not None]


def _consequences(ring: QuerySet[SigningKey], key: SigningKey) -> list[str]:
    points = [
        _("It leaves the JWKS at once. Our API and introspection refuse every JWT that it signed from this moment on."),
        _("Who verifies offline may accept them until they fetch the JWKS again, for %(kept)s at most.")
        % {"kept": in_words(settings.JWKS_MAX_AGE)},
    ]
    if key.state == State.PUBLISHED:
        return [_("It has signed nothing yet, and never will. The active key goes on; rotate again when you like.")]
    points.append(
        _("So that readers of the status list need not wait for that, every JWT of the environment issued so far ends.")
    )
    if key.state == State.RETIRING:
        return [*points, _("The active key goes on. Clients whose JWT is refused get a new one.")]
    waiting = ring.filter(state=State.PUBLISHED).first()
    if waiting is None:
        successor = _("A new key signs from this moment on, which who verifies meets with the next fetch.")
    else:
        successor = _("The key “%(kid)s…”, which is published already, signs from this moment on.") % {
            "kid": waiting.kid[:TYPED]
        }
    return [
        *points,
        successor,
        _("Clients whose JWT is refused get a new one at the token endpoint. No secret changes."),
    ]


def _lead() -> str:
    return in_words(int(keyring.lead().total_seconds()))


_to_keys = console_page("signing-keys:read")
urlpatterns = [
    path("keys/", _to_keys(keys), name="keys"),
    path("keys/rotate/", _to_keys(rotate), name="key-rotate"),
    path("keys/<str:kid>/compromised/", _to_keys(compromised), name="key-compromised"),
]
