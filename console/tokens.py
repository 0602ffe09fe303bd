"""The environment's tokens: its own ones, and those of all its tenants and people, to be found and stopped."""

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from accounts.models import User
from apitokens import access, credentials
from apitokens.finding import TEXT_MAX, Chosen, among, token_ids_in
from apitokens.governance import bulk
from apitokens.models import Kind, Owner
from apitokens.orders import InvalidField
from apitokens.pages import rotation, ticked
from apitokens.pages import tokens as pages
from apitokens.pages.choices import OfferedChoice
from apitokens.pages.forms import STATE_WORDS
from apitokens.pages.paging import page_of
from apitokens.pages.places import PageRequest
from apitokens.pages.records import tokens_csv_url
from apitokens.pages.rows import KINDS
from apitokens.paging import TokenPages
from apitokens.principals import ConsolePrincipal
from apitokens.querysets import SHOWN, ApiTokenQuerySet
from audit.services import Refusal
from audit.words import listed
from console.confirming import UNPROCESSABLE
from console.doors import console_page
from tenants.models import Environment, Role, Tenant

CONFLICT = 409
FOUND = 50
PASTED_MAX = 4_000
ROLES_SHOWN = 200
OWNERS = (
    ("", gettext_lazy("Everybody's")),
    (Owner.ENVIRONMENT.value, gettext_lazy("The environment's")),
    (Owner.TENANT.value, gettext_lazy("Tenants'")),
    (Owner.USER.value, gettext_lazy("Personal")),
)
LONGEST_COUNT = 9

OWNED = {
    Owner.ENVIRONMENT: gettext_lazy("owned by the environment"),
    Owner.TENANT: gettext_lazy("owned by tenants"),
    Owner.USER: gettext_lazy("owned by people"),
}


class FilterForm(forms.Form):
    """Which of all tokens: by what can stand in an address."""

    tenant = forms.CharField(
        label=gettext_lazy("Tenant"),
        required=False,
        max_length=255,
        widget=forms.TextInput({"placeholder": gettext_lazy("Id, external id or address")}),
    )
    owner = OfferedChoice(label=gettext_lazy("Owner"), required=False, choices=OWNERS)
    kind = OfferedChoice(
        label=gettext_lazy("Kind"),
        required=False,
        choices=[("", gettext_lazy("Every kind")), *((kind.value, label) for kind, label in KINDS.items())],
    )
    role = OfferedChoice(label=gettext_lazy("Role"), required=False)
    state = OfferedChoice(
        label=gettext_lazy("State"),
        required=False,
        choices=[("", gettext_lazy("Every state")), *STATE_WORDS.items()],
    )
    never_used = forms.BooleanField(label=gettext_lazy("Never used"), required=False)
    expiring = forms.BooleanField(label=gettext_lazy("Expires within 30 days"), required=False)
    creator = forms.UUIDField(required=False, widget=forms.HiddenInput)
    parent = forms.CharField(required=False, max_length=TEXT_MAX, widget=forms.HiddenInput)

    def __init__(self, *args: Any, environment: Environment, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.environment = environment
        roles = Role.objects.filter(environment=environment, tenant=None).order_by("level", "key")[:ROLES_SHOWN]
        self.fields["role"].choices = [  # type: ignore[attr-defined]
            ("", _("Every role")),
            *((role.key, role.name) for role in roles),
        ]

    def clean_tenant(self) -> UUID | None:
        reference = self.cleaned_data["tenant"].strip()
        if not reference:
            return None
        tenants = Tenant.objects.filter(environment=self.environment)
        found = tenants.filter(slug=reference).first() or tenants.filter(access.named_tenant(reference)).first()
        if found is None:
            raise forms.ValidationError(_("There is no such tenant in this environment."))
        return found.pk

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if not self.errors:
            try:
                self.chosen().check()
            except InvalidField as refusal:
                self.add_error(refusal.field if refusal.field in self.fields else None, str(refusal))
        return data

    def chosen(self) -> Chosen:
        return Chosen(**self.cleaned_data)

    def in_words(self) -> str:
        """What is chosen, as a sentence says it; of a form that is valid."""
        data = self.cleaned_data
        tenant = Tenant.objects.filter(pk=data["tenant"]).first() if data["tenant"] else None
        roles = dict(self.fields["role"].choices)  # type: ignore[attr-defined]
        parts = (
            (tenant, _("of %(what)s")),
            (OWNED.get(data["owner"]), "%(what)s"),
            (KINDS[Kind(data["kind"])] if data["kind"] else "", _("of the kind “%(what)s”")),
            (data["role"] and roles.get(data["role"], data["role"]), _("with the role %(what)s")),
            (STATE_WORDS[data["state"]] if data["state"] else "", _("in the state “%(what)s”")),
            (data["never_used"] and _("never used"), "%(what)s"),
            (data["expiring"] and _("that expire within 30 days"), "%(what)s"),
            (self.people(), _("made by %(what)s")),
            (data["parent"], _("made by the token %(what)s")),
        )
        said = listed(
            words % {"what": chosen.name if isinstance(chosen, Tenant) else chosen} for chosen, words in parts if chosen
        )
        return _("All tokens %(conditions)s.") % {"conditions": said}

    def people(self) -> str:
        """Who made them, in words, if that is among the conditions."""
        creator = self.cleaned_data.get("creator")
        return str(User.objects.filter(pk=creator).first() or _("A former member")) if creator else ""


@sensitive_post_parameters("q")
@require_http_methods(["GET", "HEAD", "POST"])
def all_tokens(request: PageRequest, principal: ConsolePrincipal) -> HttpResponse:
    """Of the whole environment, narrowed by what can stand in an address; searched by what is only ever sent (R1)."""
    if request.method == "POST":
        return _searched(request, principal)
    at = timezone.now()
    form = FilterForm(request.GET, environment=principal.environment)
    chosen = form.chosen() if form.is_valid() else Chosen()
    found = access.visible_tokens(principal).none() if form.errors else access.visible_tokens(principal)
    found = among(found, chosen, environment=principal.environment, at=at)
    cursor = TokenPages(read=SHOWN[access.sees_flags(principal)])
    rows = pages.token_rows(page_of(cursor, found, request), request, principal, at)
    query = "" if chosen.is_empty else f"?{urlencode(chosen.described())}"
    context = {
        "tokens": rows,
        "acts": pages.acts_on(request, rows, place="all-tokens", query=query),
        "form": form,
        "is_filtered": not chosen.is_empty or bool(form.errors),
        "csv_url": tokens_csv_url(request, chosen),
        "creator": form.people(),
        "disable_url": "" if chosen.is_empty else _disable_url(request, chosen),
        "next_url": cursor.get_next_link(),
        "previous_url": cursor.get_previous_link(),
    }
    return render(request, "console/tokens/all.html", context)


def _searched(request: PageRequest, principal: ConsolePrincipal) -> HttpResponse:
    """What was typed or pasted is in this request alone: not in an address, the answer, the session or a log."""
    found = list(_found_by(request.POST.get("q", "")[:PASTED_MAX], principal)[: FOUND + 1])
    if len(found) == 1:
        return redirect(request.place.url("token", found[0].token_id))
    rows = pages.token_rows(found[:FOUND], request, principal, timezone.now())
    context = {
        "tokens": rows,
        "acts": pages.acts_on(request, rows, place="all-tokens"),
        "form": FilterForm(None, environment=principal.environment),
        "is_searched": True,
        "is_more": len(found) > FOUND,
    }
    return render(request, "console/tokens/all.html", context)


def _found_by(text: str, principal: ConsolePrincipal) -> ApiTokenQuerySet:
    visible, at = access.visible_tokens(principal), timezone.now()
    if credentials.redacted(text) != text:
        # Perhaps a whole line of a log or of a settings file. Of a secret nothing but its public id is looked for.
        found = visible.filter(token_id__in=token_ids_in(text))
    elif text.strip() and len(text.strip()) <= TEXT_MAX and "\0" not in text:
        found = among(visible, Chosen(q=text.strip()), environment=principal.environment, at=at)
    else:
        found = visible.none()
    return pages.with_all_shown(found, principal).order_by("-created_at", "-id")


@require_http_methods(["GET", "HEAD", "POST"])
def disable_all(request: PageRequest, principal: ConsolePrincipal) -> HttpResponse:
    """What a filter chooses is shown first; sent again, it is disabled."""
    at = timezone.now()
    form = FilterForm(request.POST if request.method == "POST" else request.GET, environment=principal.environment)
    chosen = form.chosen() if form.is_valid() else Chosen()
    if chosen.is_empty:
        return redirect(request.place.url("all-tokens"))
    status, refused = 200, ""
    if request.method == "POST":
        try:
            return _disabled(request, principal, chosen)
        except Refusal as refusal:
            if refusal.code not in {"stale", "invalid"}:
                raise
            status, refused = (CONFLICT if refusal.code == "stale" else UNPROCESSABLE), str(refusal)
    listed = bulk.preview(by=principal, chosen=chosen, at=at)
    if status == CONFLICT:
        refused = _others_by_now(int(request.POST["expected"]), listed.count)
    context = {
        "tokens": pages.token_rows(listed.first, request, principal, at),
        "count": listed.count,
        "most": bulk.MOST,
        "more": listed.count - len(listed.first),
        "chosen": chosen.described(),
        "chosen_words": form.in_words(),
        "refused": refused,
        "back_url": f"{request.place.url('all-tokens')}?{urlencode(chosen.described())}",
    }
    return render(request, "console/tokens/disable_all.html", context, status=status)


def _disabled(request: PageRequest, principal: ConsolePrincipal, chosen: Chosen) -> HttpResponse:
    shown = request.POST.get("expected", "")
    if not shown.isdecimal() or len(shown) > LONGEST_COUNT:
        raise InvalidField("expected", _("Look at what it would disable first."))
    at = timezone.now()
    count = bulk.disable_all(by=principal, chosen=chosen, at=at, expected=int(shown))
    done = ngettext(
        "%(count)s token was disabled and stops working now.",
        "%(count)s tokens were disabled and stop working now.",
        count,
    )
    messages.success(request, done % {"count": count})
    if left := max(int(shown) - count, 0):
        more = ngettext("%(left)s more is left: do it again.", "%(left)s more are left: do it again.", left)
        messages.warning(request, more % {"left": left})
        return redirect(_disable_url(request, chosen))
    return redirect(f"{request.place.url('all-tokens')}?{urlencode(chosen.described())}")


def _others_by_now(shown: int, now: int) -> str:
    seen = ngettext("%(count)s was shown", "%(count)s were shown", shown) % {"count": shown}
    match = ngettext("%(count)s matches now", "%(count)s match now", now) % {"count": now}
    return _("%(seen)s, %(match)s. Nothing was disabled: look at them again.") % {"seen": seen, "match": match}


def _disable_url(request: PageRequest, chosen: Chosen) -> str:
    return f"{request.place.url('all-tokens-disable')}?{urlencode(chosen.described())}"


_to_all = console_page("apitokens:read")
_to_tokens = console_page("environment-tokens:read")
urlpatterns = [
    path("all-tokens/", _to_all(all_tokens), name="all-tokens"),
    path("all-tokens/disable/", _to_all(disable_all), name="all-tokens-disable"),
    path("tokens/", _to_tokens(pages.tokens), name="tokens"),
    path("tokens/new/", _to_tokens(pages.token_new), name="token-new"),
    path("tokens/ticked/", _to_tokens(ticked.tokens_ticked), name="tokens-ticked"),
    path("tokens/<str:token_id>/", _to_tokens(pages.token), name="token"),
    path("tokens/<str:token_id>/edit/", _to_tokens(pages.token_edit), name="token-edit"),
    path("tokens/<str:token_id>/disable/", _to_tokens(pages.token_disable), name="token-disable"),
    path("tokens/<str:token_id>/enable/", _to_tokens(pages.token_enable), name="token-enable"),
    path("tokens/<str:token_id>/end-jwts/", _to_tokens(pages.token_end_jwts), name="token-end-jwts"),
    path("tokens/<str:token_id>/delete/", _to_tokens(pages.token_delete), name="token-delete"),
    path("tokens/<str:token_id>/take-over/", _to_tokens(pages.token_take_over), name="token-take-over"),
    path("tokens/<str:token_id>/rotate/", _to_tokens(rotation.token_rotate), name="token-rotate"),
    path(
        "tokens/<str:token_id>/rotate/complete/",
        _to_tokens(rotation.token_rotation_complete),
        name="token-rotation-complete",
    ),
    path(
        "tokens/<str:token_id>/rotate/cancel/",
        _to_tokens(rotation.token_rotation_cancel),
        name="token-rotation-cancel",
    ),
]
