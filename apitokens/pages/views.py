"""The portal's pages: open a door, read a form, call one service, answer."""

from datetime import datetime
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from rest_framework.exceptions import NotFound
from rest_framework.request import Request

from apitokens import access, policy, services
from apitokens.access import PortalRequest
from apitokens.models import ApiToken, Kind, Owner
from apitokens.orders import Order, name_key
from apitokens.pages.connect import save_commands, snippets
from apitokens.pages.doors import tenant_page
from apitokens.pages.forms import NonceForm, TokenForm, TokenNaming
from apitokens.pages.rows import TokenRow, event_rows
from apitokens.pages.words import in_words
from apitokens.paging import EventPages, TimePages, TokenPages
from apitokens.principals import MemberPrincipal
from audit.models import AuditEvent
from audit.services import Refusal
from tenants.models import Permission

UNPROCESSABLE = 422


@never_cache
@login_required
@require_safe
def home(request: PortalRequest) -> HttpResponse:
    """Straight to the tenant of who has one; a choice for who has several."""
    memberships = list(access.memberships_of(request.user)[:200])
    if len(memberships) == 1:
        return redirect("portal:tokens", memberships[0].tenant.slug)
    vendor_memberships = request.user.vendor_memberships.select_related("vendor").filter(ended_at__isnull=True)
    context = {"memberships": memberships, "vendor_memberships": list(vendor_memberships[:50])}
    return render(request, "portal/home.html", context)


@tenant_page("apitokens:read")
@require_safe
def tokens(request: PortalRequest, principal: MemberPrincipal) -> HttpResponse:
    """Both kinds in one list, the tenant's and the person's own."""
    pages = TokenPages()
    visible = access.visible_tokens(principal).with_standing().with_last_four().select_related("creator")
    page = _page(pages, visible, request)
    at = timezone.now()
    context = {
        "tokens": [TokenRow(token, principal, at) for token in page],
        "can_create": _may_create(principal),
        "create_url": reverse("portal:token-new", args=[principal.tenant.slug]),
        "next_url": pages.get_next_link(),
        "previous_url": pages.get_previous_link(),
    }
    return render(request, "portal/tokens/list.html", context)


@tenant_page("apitokens:read")
@require_http_methods(["GET", "HEAD", "POST"])
def token_new(request: PortalRequest, principal: MemberPrincipal) -> HttpResponse:
    if not _may_create(principal):
        access.require(principal, "apitokens:create")
    form = TokenForm(request.POST if request.method == "POST" else None, principal=principal)
    taken = None
    if form.is_valid():
        order = form.order()
        try:
            issued = services.issue(
                by=principal,
                tenant=principal.tenant,
                order=order,
                at=timezone.now(),
                nonce=form.cleaned_data["nonce"],
            )
        except services.AlreadyIssued as refusal:
            return _already(request, principal, refusal)
        except services.NameTaken as refusal:
            form.add_refusal(refusal)
            taken = _named(principal, order)
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            return _secret(request, principal, issued, heading=_("Here is your secret"))
    status = UNPROCESSABLE if form.errors else 200
    return render(request, "portal/tokens/new.html", {"form": form, "taken": taken}, status=status)


@tenant_page("apitokens:read")
@require_safe
def token(request: PortalRequest, principal: MemberPrincipal, token_id: str) -> HttpResponse:
    found = access.open_token(principal, token_id)
    row = TokenRow(found, principal, timezone.now())
    standing = policy.Standing.of(found)
    now = policy.effective_permissions(standing)
    events = AuditEvent.objects.filter(target_id=found.id, tenant_id=principal.tenant.id).order_by("-at", "-id")
    context = {
        "token": row,
        "permissions": list(Permission.objects.filter(environment=found.environment_id, key__in=now.permissions)),
        "withheld": [{"key": key, "reason": reason} for key, reason in policy.withheld(standing, now).items()],
        "facts": _facts(row),
        "events": event_rows(events[:50]),
        "actions": row,
    }
    return render(request, "portal/tokens/detail.html", context)


@tenant_page("apitokens:read")
@require_http_methods(["GET", "HEAD", "POST"])
def token_edit(request: PortalRequest, principal: MemberPrincipal, token_id: str) -> HttpResponse:
    found = access.open_token(principal, token_id)
    _show_form_to(request, principal, found, "create")
    initial = {"name": found.name, "description": found.description}
    form = TokenNaming(request.POST if request.method == "POST" else None, initial=initial)
    if form.is_valid():
        try:
            services.edit(by=principal, token=found, at=timezone.now(), **form.cleaned_data)
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            messages.success(request, _("The token was changed."))
            return redirect("portal:token", principal.tenant.slug, token_id)
    context = {"token": TokenRow(found, principal, timezone.now()), "form": form}
    return render(request, "portal/tokens/edit.html", context, status=UNPROCESSABLE if form.errors else 200)


@tenant_page("apitokens:read")
@require_POST
def token_disable(request: PortalRequest, principal: MemberPrincipal, token_id: str) -> HttpResponse:
    services.disable(by=principal, token=access.open_token(principal, token_id), at=timezone.now())
    messages.success(request, _("The token is disabled and stops working now."))
    return redirect("portal:token", principal.tenant.slug, token_id)


@tenant_page("apitokens:read")
@require_POST
def token_enable(request: PortalRequest, principal: MemberPrincipal, token_id: str) -> HttpResponse:
    services.enable(by=principal, token=access.open_token(principal, token_id), at=timezone.now())
    messages.success(request, _("The token is enabled. JWTs it got before stay dead."))
    return redirect("portal:token", principal.tenant.slug, token_id)


@tenant_page("apitokens:read")
@require_http_methods(["GET", "HEAD", "POST"])
def token_delete(request: PortalRequest, principal: MemberPrincipal, token_id: str) -> HttpResponse:
    """Asks on a page of its own, which names the token and says that there is no undo."""
    found = access.open_token(principal, token_id)
    if request.method == "POST":
        services.delete(by=principal, token=found, at=timezone.now())
        messages.success(request, _("The token was deleted."))
        return redirect("portal:tokens", principal.tenant.slug)
    _show_form_to(request, principal, found, "delete")
    row = TokenRow(found, principal, timezone.now())
    is_client = found.kind == Kind.CLIENT_CREDENTIALS
    context = {"token": row, "jwt_lifetime": in_words(found.token_type.jwt_lifetime) if is_client else ""}
    return render(request, "portal/tokens/delete.html", context)


@tenant_page("apitokens:read")
@require_http_methods(["GET", "HEAD", "POST"])
def token_new_secret(request: PortalRequest, principal: MemberPrincipal, token_id: str) -> HttpResponse:
    found = access.open_token(principal, token_id)
    _show_form_to(request, principal, found, "create")
    form = NonceForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            issued = services.renew_secret(
                by=principal, token=found, at=timezone.now(), nonce=form.cleaned_data["nonce"]
            )
        except services.AlreadyIssued as refusal:
            return _already(request, principal, refusal)
        return _secret(request, principal, issued, heading=_("Here is your new secret"))
    return render(
        request, "portal/tokens/new_secret.html", {"token": TokenRow(found, principal, timezone.now()), "form": form}
    )


@tenant_page("audit:read")
@require_safe
def audit(request: PortalRequest, principal: MemberPrincipal) -> HttpResponse:
    pages = EventPages()
    page = _page(pages, AuditEvent.objects.filter(tenant_id=principal.tenant.id), request)
    context = {
        "events": event_rows(page),
        "next_url": pages.get_next_link(),
        "previous_url": pages.get_previous_link(),
    }
    return render(request, "portal/audit.html", context)


def _page(pages: TimePages, rows: QuerySet[Any], request: PortalRequest) -> list[Any]:
    try:
        return pages.paginate_queryset(rows, Request(request)) or []
    except NotFound as error:
        raise Http404 from error


def _show_form_to(request: PortalRequest, principal: MemberPrincipal, found: ApiToken, act: str) -> None:
    """A form is shown to who may send it; whether what is sent may be done is the service's to say, and to record."""
    if request.method != "POST":
        access.require(principal, f"{services.PERMISSION_FAMILY[Owner(found.owner)]}:{act}")


def _may_create(principal: MemberPrincipal) -> bool:
    return principal.holds("apitokens:create") or principal.holds("personal-apitokens:create")


def _named(principal: MemberPrincipal, order: Order) -> TokenRow | None:
    """The token that has the name: perhaps the one that this person has just made, with a form sent twice."""
    named = access.visible_tokens(principal).filter(owner=order.owner, name_key=name_key(order.name.strip()))
    found = named.with_standing().with_last_four().first()
    return TokenRow(found, principal, timezone.now()) if found else None


def _secret(
    request: PortalRequest, principal: MemberPrincipal, issued: services.Issued, *, heading: str
) -> HttpResponse:
    """The exception to redirect-after-post: the secret is in the answer to this POST and nowhere else (R1)."""
    found = access.with_everything(issued.token)
    if found.kind == Kind.CLIENT_CREDENTIALS:
        shown = [("client_id", _("Client id"), found.client_id), ("client_secret", _("Secret"), issued.plaintext)]
    else:
        shown = [("access_token", _("Access token"), issued.plaintext)]
    shown = [("token_id", _("Token id"), found.token_id), *shown]
    context = {
        "heading": heading,
        "token": TokenRow(found, principal, timezone.now()),
        "fields": [
            {"name": name, "label": label, "value": value, "secret": value == issued.plaintext}
            for name, label, value in shown
        ],
        "snippets": snippets(found, issued.plaintext),
        "save_commands": save_commands(found, issued.plaintext),
    }
    return render(request, "portal/tokens/secret.html", context)


def _already(request: PortalRequest, principal: MemberPrincipal, refusal: services.AlreadyIssued) -> HttpResponse:
    row = None
    if refusal.token is not None:
        row = TokenRow(access.with_everything(refusal.token), principal, timezone.now())
    context = {"token": row, "new_secret_url": row.new_secret_url if row else None}
    return render(request, "portal/tokens/already.html", context, status=409)


def _facts(row: TokenRow) -> list[tuple[str, str]]:
    found = row.token
    facts = [
        (_("Kind"), row.kind_label),
        (_("Owner"), row.owner_label),
        (_("Roles"), row.roles_label),
        (_("Token id"), found.token_id),
    ]
    if found.kind == Kind.CLIENT_CREDENTIALS:
        facts.append((_("Client id"), found.client_id))
        facts.append((_("Its JWTs live for"), in_words(found.token_type.jwt_lifetime)))
    return [
        *facts,
        (_("Secret ends in"), row.last_four),
        (_("Made by"), row.created_by),
        (_("Made"), _moment(found.created_at)),
        (_("Expires"), _moment(found.expires_at) if found.expires_at else _("never")),
        (_("Usable from"), ", ".join(found.ip_allowlist) or _("anywhere")),
    ]


def _moment(at: datetime) -> str:
    return date_format(at, "j M Y, H:i") + " UTC"
