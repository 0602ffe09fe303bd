"""Which tokens may exist: the six cells, and each one's settings, changed after a look at what that does."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.db.models import Count
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_http_methods, require_safe

from apitokens.changing import Stale
from apitokens.finding import StateFilter
from apitokens.governance import token_types as governance
from apitokens.governance.bulk import Listed
from apitokens.governance.token_types import Impact
from apitokens.models import ApiToken, Kind, Owner, TokenType
from apitokens.orders import InvalidField
from apitokens.pages.places import PageRequest, Place
from apitokens.pages.rows import KINDS, TokenRow
from apitokens.pages.words import OWNERS, in_words
from apitokens.principals import ConsolePrincipal
from audit.models import AuditEvent
from audit.words import listed
from console import differences
from console.confirming import UNPROCESSABLE
from console.doors import console_page
from console.token_type_forms import ExistingForm, TypeForm

CONFLICT = 409
PURPOSES = {
    (Owner.ENVIRONMENT, Kind.CLIENT_CREDENTIALS): gettext_lazy("Your backend. Elsewhere: application, machine client."),
    (Owner.ENVIRONMENT, Kind.ACCESS_TOKEN): gettext_lazy("Your backend, in scripts. Elsewhere: API key."),
    (Owner.TENANT, Kind.CLIENT_CREDENTIALS): gettext_lazy("A customer's service. Elsewhere: tenant API token, client."),
    (Owner.TENANT, Kind.ACCESS_TOKEN): gettext_lazy("A customer's script. Elsewhere: tenant access token."),
    (Owner.USER, Kind.CLIENT_CREDENTIALS): gettext_lazy("A member's own service. Elsewhere: personal API token."),
    (Owner.USER, Kind.ACCESS_TOKEN): gettext_lazy("A member's own script. Elsewhere: personal access token."),
}
# What is part of a form's sending, and no setting.
NOT_SETTINGS = {"csrfmiddlewaretoken", "environment", "step", "existing"}


@dataclass(frozen=True)
class CellRow:
    cell: TokenType
    tokens: int
    beyond: int
    place: Place

    @property
    def owner_label(self) -> str:
        return str(OWNERS[Owner(self.cell.owner)])

    @property
    def kind_label(self) -> str:
        return str(KINDS[Kind(self.cell.kind)])

    @property
    def purpose(self) -> str:
        return str(PURPOSES[Owner(self.cell.owner), Kind(self.cell.kind)])

    @property
    def lifetime(self) -> str:
        longest, default = self.cell.longest_lifetime, self.cell.default_lifetime
        if longest is not None and self.cell.may_never_expire:
            return _("at most %(time)s, or never") % {"time": in_words(longest)}
        if longest is not None:
            return _("at most %(time)s") % {"time": in_words(longest)}
        if default is not None:
            return _("by default %(time)s") % {"time": in_words(default)}
        return _("never expires by default")

    @property
    def roles(self) -> str:
        if self.cell.carries_all_roles:
            return _("Every role")
        return listed(sorted(role.name for role in self.cell.roles.all())) or _("No role")

    @property
    def url(self) -> str:
        return self.place.url("token-type", self.cell.owner, self.cell.kind)

    def _list_url(self, **more: str) -> str:
        return f"{self.place.url('all-tokens')}?{urlencode({'owner': self.cell.owner, 'kind': self.cell.kind, **more})}"

    @property
    def tokens_url(self) -> str:
        return self._list_url()

    @property
    def beyond_url(self) -> str:
        return self._list_url(state=StateFilter.OUT_OF_POLICY)


@require_safe
def token_types(request: PageRequest, principal: ConsolePrincipal) -> HttpResponse:
    at = timezone.now()
    tokens = ApiToken.objects.filter(environment=principal.environment).not_expired(at=at).order_by()
    counted = dict(tokens.values_list("token_type").annotate(Count("pk")))
    beyond = dict(tokens.out_of_policy(at=at).values_list("token_type").annotate(Count("pk")))
    rows = [
        CellRow(cell, counted.get(cell.pk, 0), beyond.get(cell.pk, 0), request.place)
        for cell in governance.cells(principal.environment)
    ]
    return render(request, "console/token_types/list.html", {"cells": rows})


@require_http_methods(["GET", "HEAD", "POST"])
def token_type(request: PageRequest, principal: ConsolePrincipal, owner: str, kind: str) -> HttpResponse:
    """The settings; what a change does is shown first if it does anything to tokens that exist."""
    cell = next(
        (each for each in governance.cells(principal.environment) if (each.owner, each.kind) == (owner, kind)), None
    )
    if cell is None:
        raise Http404
    form = TypeForm(request.POST if request.method == "POST" else None, token_type=cell)
    step = request.POST.get("step", "")
    status = 200
    if step != "edit" and form.is_valid():
        try:
            return _reviewed_or_saved(request, principal, cell, form, is_confirmed=step == "confirm")
        except Stale as refusal:
            form.add_refusal(refusal)
            status = CONFLICT
        except InvalidField as refusal:
            form.add_refusal(refusal)
            status = UNPROCESSABLE
    elif form.errors:
        status = UNPROCESSABLE
    if not principal.holds("token-types:create"):
        for field in form.fields.values():
            field.disabled = True
    context = {"cell": CellRow(cell, 0, 0, request.place), "form": form}
    return render(request, "console/token_types/edit.html", context, status=status)


def _reviewed_or_saved(
    request: PageRequest, principal: ConsolePrincipal, cell: TokenType, form: TypeForm, *, is_confirmed: bool
) -> HttpResponse:
    at, change = timezone.now(), form.change()
    if not is_confirmed:
        impact = governance.preview(by=principal, token_type=cell, change=change, at=at)
        endless = _endless(cell, impact, at)
        if impact.bites or endless:
            return _review(request, principal, cell, impact, endless, at)
    existing = request.POST.get("existing") or "leave"
    governance.change(
        by=principal,
        token_type=cell,
        change=change,
        at=at,
        existing=existing,
        expected=form.cleaned_data["version"],
    )
    messages.success(request, _("The token type was changed."))
    if said := _done_to_tokens(request, principal, existing, at):
        messages.success(request, said)
    return redirect(request.place.url("token-types"))


def _endless(cell: TokenType, impact: Impact, at: datetime) -> int:
    """How many tokens a new limit does not touch, because they never expire and still may."""
    after = impact.after
    is_new = "longest_lifetime" in impact.changed and after["longest_lifetime"] is not None
    if not is_new or not after["may_never_expire"]:
        return 0
    return ApiToken.objects.filter(token_type=cell, expires_at__isnull=True).count()


def _done_to_tokens(request: PageRequest, principal: ConsolePrincipal, existing: str, at: datetime) -> str:
    """How many were capped or disabled just now, by the record: one event each."""
    verb = {"cap": "apitoken.edited", "disable": "apitoken.disabled"}.get(existing)
    if verb is None:
        return ""
    done = AuditEvent.objects.filter(
        environment_id=principal.environment.id, at__gte=at, verb=verb, request_id=request.request_id
    )
    count = done.count()
    if existing == "cap":
        return ngettext(
            "%(count)s token now ends within the limit.", "%(count)s tokens now end within the limit.", count
        ) % {"count": count}
    return ngettext(
        "%(count)s token was disabled and stops working now.",
        "%(count)s tokens were disabled and stop working now.",
        count,
    ) % {"count": count}


def _review(
    request: PageRequest, principal: ConsolePrincipal, cell: TokenType, impact: Impact, endless: int, at: datetime
) -> HttpResponse:
    """What was typed goes along in hidden fields, and is checked again when it comes back."""
    sent = [(name, value) for name, values in request.POST.lists() if name not in NOT_SETTINGS for value in values]
    context = {
        "cell": CellRow(cell, 0, 0, request.place),
        "consequences": [
            _consequence(request, principal, at, listed, heading, advice)
            for listed, heading, advice in (
                (impact.stops, _("Stop working"), _("They resume when the type is switched on again.")),
                (
                    impact.out_of_policy,
                    _("Would be out of policy"),
                    _("They could not be made like this any more. What becomes of them you say below."),
                ),
                (impact.loses_basic, _("Lose HTTP Basic on the API"), _("They go on at the token endpoint.")),
                (impact.loses_making, _("Can make no more tokens"), _("What they made goes on.")),
            )
            if listed.count
        ],
        "changes": differences.in_words(impact.before, impact.after),
        "endless": endless,
        "over": impact.owners_over_quota,
        "over_count": impact.owners_over_quota_count,
        "existing": ExistingForm() if impact.out_of_policy.count else None,
        "sent": sent,
    }
    return render(request, "console/token_types/review.html", context)


def _consequence(
    request: PageRequest, principal: ConsolePrincipal, at: datetime, listed: Listed, heading: str, advice: str
) -> dict[str, Any]:
    rows = [TokenRow(token, principal, at, request.place) for token in listed.first]
    return {
        "count": listed.count,
        "heading": heading,
        "advice": advice,
        "tokens": rows,
        "more": listed.count - len(rows),
    }


_door = console_page("token-types:read")
urlpatterns = [
    path("token-types/", _door(token_types), name="token-types"),
    path("token-types/<str:owner>/<str:kind>/", _door(token_type), name="token-type"),
]
