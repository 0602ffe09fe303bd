"""A tenant's single sign-on: looked at, set up, tried, enforced, removed.

The same pages in the portal, for the tenant's people, and in the console, for the vendor's, where the address names the
tenant.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.openid import ISSUER_MAX
from apitokens import access, ceiling
from apitokens.changing import Stale, version_of
from apitokens.governance import sso
from apitokens.pages import sign_in
from apitokens.pages.member_forms import AnsweredForm, RolesForm
from apitokens.pages.places import PagePrincipal, PageRequest, Place
from apitokens.pages.refusable import with_others
from apitokens.principals import ConsolePrincipal
from audit.services import Refusal
from tenants.models import IdentityProvider, Tenant

FORM = ["GET", "HEAD", "POST"]
UNPROCESSABLE = 422
REMOVED_SHOWN = 50


@dataclass(frozen=True)
class Where:
    """The tenant, and the addresses of its pages: in its portal, or among the console's."""

    place: Place
    tenant: Tenant
    is_console: bool

    def url(self, name: str = "sso", *more: object) -> str:
        if self.is_console:
            return self.place.url(f"tenant-{name}", self.tenant.id, *more)
        return self.place.url(name, *more)

    @property
    def back_url(self) -> str:
        return self.place.url("tenant", self.tenant.id) if self.is_console else ""


class SsoForm(RolesForm):
    """Which provider, and what newcomers get. The secret that is stored is never in it."""

    issuer = forms.CharField(
        label=gettext_lazy("Issuer"),
        max_length=ISSUER_MAX,
        widget=forms.URLInput({"autocomplete": "off", "placeholder": "https://login.example.com"}),
        help_text=gettext_lazy("The address under which your identity provider describes itself."),
    )
    client_id = forms.CharField(
        label=gettext_lazy("Client id"),
        max_length=sso.CLIENT_ID_MAX,
        widget=forms.TextInput({"autocomplete": "off", "spellcheck": "false"}),
        help_text=gettext_lazy("What your identity provider calls this application."),
    )
    client_secret = forms.CharField(
        label=gettext_lazy("Client secret"),
        max_length=sso.SECRET_MAX,
        strip=False,
        widget=forms.PasswordInput({"autocomplete": "off"}),
        help_text=gettext_lazy("It is stored encrypted and never shown again."),
    )
    version = forms.CharField(widget=forms.HiddenInput, max_length=64, required=False)

    field_order = ["issuer", "client_id", "client_secret", "roles"]

    def __init__(self, *args: Any, provider: IdentityProvider | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.now = version_of(sso.snapshot(provider) if provider else {})
        self.fields["version"].initial = self.now
        self.fields["roles"].label = _("What newcomers get")
        self.fields["roles"].help_text = _("Roles of those who sign in for the first time. You can change them later.")
        if provider is None:
            return
        self.fields["issuer"].initial = provider.issuer
        self.fields["issuer"].widget.attrs["readonly"] = True
        self.fields["issuer"].help_text = _(
            "Another issuer vouches for other people: remove this single sign-on first, then set up the other."
        )
        self.fields["client_id"].initial = provider.client_id
        self.fields["client_secret"].required = False
        self.fields["client_secret"].help_text = _("Leave it empty to keep the one that is stored.")
        self.fields["roles"].initial = [role.key for role in provider.roles.all()]

    def add_refusal(self, refusal: Refusal) -> None:
        super().add_refusal(refusal)
        if isinstance(refusal, Stale):
            self.data = with_others(self.data, version=self.now)


@require_safe
def single_sign_on(request: PageRequest, principal: PagePrincipal, tenant_id: UUID | None = None) -> HttpResponse:
    principal, where = _inside(request, principal, tenant_id)
    provider, at = sso.provider_of(where.tenant), timezone.now()
    may_change = principal.holds("sso:create")
    context = {
        "where": where,
        "provider": provider,
        "redirect_uri": sso.redirect_uri(where.tenant),
        "sign_in_url": sso.sign_in_address(where.tenant),
        "no_newcomers": sso.why_no_newcomers(provider, at=at) if provider else "",
        "removed": _removed(provider, where) if provider and principal.holds("members:create") else [],
        "may_change": may_change,
        "may_remove": principal.holds("sso:delete"),
        "may_enforce": may_change and _came_by_it(principal, provider),
        "edit_url": where.url("sso-edit"),
        "enforce_url": where.url("sso-enforce"),
        "remove_url": where.url("sso-remove"),
        "try_url": where.url("sso-try"),
    }
    return render(request, "portal/sso/show.html", context)


@sensitive_post_parameters("client_secret")
@require_http_methods(FORM)
def edit(request: PageRequest, principal: PagePrincipal, tenant_id: UUID | None = None) -> HttpResponse:
    principal, where = _inside(request, principal, tenant_id)
    _show_form_to(request, principal, "sso:create")
    provider = sso.provider_of(where.tenant)
    form = SsoForm(request.POST if request.method == "POST" else None, principal=principal, provider=provider)
    if form.is_valid():
        asked = dict(form.cleaned_data)
        expected = asked.pop("version")
        try:
            sso.configure(by=principal, tenant=where.tenant, at=timezone.now(), expected=expected, **asked)
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            messages.success(request, _("Single sign-on is saved. Try it out before you tell others."))
            return redirect(where.url())
    context = {
        "form": form,
        "where": where,
        "is_new": provider is None,
        "redirect_uri": sso.redirect_uri(where.tenant),
        "back_url": where.url(),
    }
    return render(request, "portal/sso/edit.html", context, status=UNPROCESSABLE if form.errors else 200)


@require_http_methods(FORM)
def enforce(request: PageRequest, principal: PagePrincipal, tenant_id: UUID | None = None) -> HttpResponse:
    """On a page of its own: to make it the only way in, or one of two again."""
    principal, where = _inside(request, principal, tenant_id)
    provider = _provider(where)
    is_on = provider.is_enforced
    if is_on:
        heading = _("Let people sign in here as well?")
        points = [
            _("Members who sign in with e-mail and password can open this tenant again, with the roles they had."),
            _("Single sign-on goes on working."),
        ]
        done, label = _("People can sign in both ways now."), _("Allow both ways")
    else:
        heading = _("Make single sign-on the only way in?")
        points = [
            _("Members who sign in with e-mail and password can't open this tenant any more, at once."),
            _("By single sign-on they come as somebody new, with the roles that newcomers get."),
            _("No token stops by this, and whom the vendor's own application sends here still comes in."),
            _("Whoever manages single sign-on can take it back, and so can the vendor."),
        ]
        done, label = _("Single sign-on is the only way in now."), _("Make it the only way in")
    return _confirmed(
        request,
        principal,
        where,
        permission="sso:create",
        heading=heading,
        points=points,
        label=label,
        done=done,
        tone="primary" if is_on else "danger",
        act=lambda expected: sso.enforce(
            by=principal, tenant=where.tenant, is_enforced=not is_on, at=timezone.now(), expected=expected
        ),
    )


@require_http_methods(FORM)
def remove(request: PageRequest, principal: PagePrincipal, tenant_id: UUID | None = None) -> HttpResponse:
    principal, where = _inside(request, principal, tenant_id)
    provider = _provider(where)
    return _confirmed(
        request,
        principal,
        where,
        permission="sso:delete",
        heading=_("Remove single sign-on by %(issuer)s?") % {"issuer": provider.issuer},
        points=[
            _("Everybody who signed in by it is signed out, and can't come back in."),
            _("They stay members, and their personal tokens go on working until you remove them."),
            _("Set up again with the same issuer, it lets the same people in as the same members."),
            _("The client secret is deleted here. Delete the client at your identity provider, too."),
        ],
        label=_("Remove single sign-on"),
        done=_("Single sign-on is removed. Whoever signed in by it is signed out."),
        tone="danger",
        act=lambda expected: sso.remove(by=principal, tenant=where.tenant, at=timezone.now(), expected=expected),
    )


@require_POST
def try_out(request: PageRequest, principal: PagePrincipal, tenant_id: UUID | None = None) -> HttpResponse:
    """To the provider and back, to a page that says what it told us; nobody else is signed in by that."""
    principal, where = _inside(request, principal, tenant_id)
    access.require(principal, "sso:create")
    ceiling.check_not_deleted(principal.environment, where.tenant)
    return sign_in.leave(request, _provider(where), why="try", next_url=where.url())


@require_POST
def readmit(
    request: PageRequest, principal: PagePrincipal, removed_id: UUID, tenant_id: UUID | None = None
) -> HttpResponse:
    principal, where = _inside(request, principal, tenant_id)
    found = sso.removed(_provider(where)).filter(pk=removed_id).first()
    if found is None:
        raise Http404
    sso.readmit(by=principal, membership=found, at=timezone.now())
    messages.success(request, _("%(name)s can sign in again.") % {"name": found.user})
    return redirect(where.url())


def _inside(request: PageRequest, principal: PagePrincipal, tenant_id: UUID | None) -> tuple[PagePrincipal, Where]:
    """The person, acting in the one tenant. In the console the address names it."""
    if tenant_id is None or not isinstance(principal, ConsolePrincipal):
        return principal, Where(request.place, _its_own(principal), is_console=False)
    access.require(principal, "sso:read")
    tenant = access.visible_tenants(principal).filter(pk=tenant_id).first()
    if tenant is None:
        raise Http404
    return replace(principal, tenant=tenant), Where(request.place, tenant, is_console=True)


def _its_own(principal: PagePrincipal) -> Tenant:
    if principal.tenant is None:
        raise Http404
    return principal.tenant


def _provider(where: Where) -> IdentityProvider:
    provider = sso.provider_of(where.tenant)
    if provider is None:
        raise Http404
    return provider


def _came_by_it(principal: PagePrincipal, provider: IdentityProvider | None) -> bool:
    member = principal.membership
    return provider is not None and member is not None and member.user.voucher_id == provider.voucher_id


def _removed(provider: IdentityProvider, where: Where) -> list[tuple[str, str]]:
    return [(str(member.user), where.url("sso-readmit", member.id)) for member in sso.removed(provider)[:REMOVED_SHOWN]]


def _show_form_to(request: PageRequest, principal: PagePrincipal, permission: str) -> None:
    """A form is shown to who may send it; what is sent is the service's to refuse, and to record."""
    if request.method != "POST":
        access.require(principal, permission)


class _Sure(AnsweredForm):
    version = forms.CharField(widget=forms.HiddenInput, max_length=64, required=False)


def _confirmed(
    request: PageRequest,
    principal: PagePrincipal,
    where: Where,
    *,
    permission: str,
    heading: str,
    points: Sequence[str],
    label: str,
    done: str,
    tone: str,
    act: Callable[[str], object],
) -> HttpResponse:
    """A page that says what will happen, or after its POST the act, on the version that was looked at."""
    _show_form_to(request, principal, permission)
    form = _Sure(request.POST if request.method == "POST" else None)
    form.fields["version"].initial = version_of(sso.snapshot(_provider(where)))
    if form.is_valid():
        try:
            act(form.cleaned_data["version"])
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            messages.success(request, done)
            return redirect(where.url())
    context = {
        "form": form,
        "heading": heading,
        "points": points,
        "label": label,
        "tone": tone,
        "back_url": where.url(),
    }
    return render(request, "portal/sso/confirm.html", context, status=UNPROCESSABLE if form.errors else 200)
