"""The environment's tenants: found, made, looked at, stopped and ended."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apitokens import access
from apitokens.changing import version_of
from apitokens.governance import environments, invitations, members, tenants
from apitokens.governance.offers import OPEN_AT_MOST
from apitokens.models import ApiToken
from apitokens.pages.member_rows import InvitationRow, MemberRow
from apitokens.pages.paging import page_of
from apitokens.pages.places import PageRequest, Place
from apitokens.pages.rows import event_rows
from apitokens.pages.words import at_moment
from apitokens.paging import TenantPages
from apitokens.principals import ConsolePrincipal
from audit.models import AuditEvent
from audit.services import Refusal
from console.confirming import UNPROCESSABLE, Question, ask
from console.doors import console_page
from console.forms import InvitationForm, NewTenantForm, TenantForm
from tenants.models import Membership, Tenant

FORM = ["GET", "HEAD", "POST"]
SEARCH_MAX = 100
MEMBERS_SHOWN = 50
# All that can be accepted; of those that have expired the newest.
INVITATIONS_SHOWN = OPEN_AT_MOST
DAYS_HELD = tenants.HELD_FOR.days


@dataclass(frozen=True)
class MemberOfTenant(MemberRow):
    """A member of the tenant, whom the vendor can stop."""

    @property
    def suspend_url(self) -> str:
        return self.place.url("tenant-member-suspend", self.member.tenant_id, self.member.id)

    @property
    def reinstate_url(self) -> str:
        return self.place.url("tenant-member-reinstate", self.member.tenant_id, self.member.id)


@dataclass(frozen=True)
class InvitationOfTenant(InvitationRow):
    @property
    def revoke_url(self) -> str:
        return self.place.url("tenant-invitation-revoke", self.invitation.tenant_id, self.invitation.id)


@dataclass(frozen=True)
class TenantRow:
    """A tenant with `members` and `tokens` counted (`_counted`)."""

    tenant: Tenant
    place: Place
    at: datetime

    @property
    def url(self) -> str:
        return self.place.url("tenant", self.tenant.id)

    @property
    def members(self) -> int:
        return int(self.tenant.member_count)  # type: ignore[attr-defined]  # annotated

    @property
    def tokens(self) -> int:
        return int(self.tenant.token_count)  # type: ignore[attr-defined]  # annotated

    @property
    def tokens_url(self) -> str:
        return f"{self.place.url('all-tokens')}?{urlencode({'tenant': self.tenant.id})}"

    @property
    def state(self) -> str:
        if self.tenant.deleted_at:
            return "refused"
        return "suspended" if self.tenant.suspended_at else "usable"

    @property
    def state_label(self) -> str:
        if self.tenant.deleted_at:
            return _("Deleted")
        return _("Suspended") if self.tenant.suspended_at else _("Active")

    @property
    def can_be_restored(self) -> bool:
        return tenants.can_be_restored(self.tenant, self.at)

    @property
    def restorable_until(self) -> str:
        return at_moment(self.tenant.deleted_at + tenants.HELD_FOR) if self.tenant.deleted_at else ""


@require_safe
def tenant_list(request: PageRequest, principal: ConsolePrincipal) -> HttpResponse:
    wanted = request.GET.get("q", "").strip()[:SEARCH_MAX]
    pages, rows = TenantPages(), _counted(access.visible_tenants(principal))
    page = page_of(pages, rows.filter(tenants.called_like(wanted)) if wanted else rows, request)
    context = {
        "tenants": [TenantRow(row, request.place, timezone.now()) for row in page],
        "wanted": wanted,
        "next_url": pages.get_next_link(),
        "previous_url": pages.get_previous_link(),
        "environment": principal.environment,
    }
    return render(request, "console/tenants/list.html", context)


@require_http_methods(FORM)
def tenant_new(request: PageRequest, principal: ConsolePrincipal) -> HttpResponse:
    if request.method != "POST":
        access.require(principal, "tenants:create")
    form = NewTenantForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            made = tenants.create(by=principal, at=timezone.now(), **form.cleaned_data)
        except Refusal as refusal:
            if not refusal.field:
                raise
            form.add_refusal(refusal)
        else:
            messages.success(request, _("The tenant was made. Invite its first admin now."))
            return redirect(request.place.url("tenant", made.id))
    role = environments.default_role_of(principal.environment)
    status = UNPROCESSABLE if form.errors else 200
    return render(request, "console/tenants/new.html", {"form": form, "default_role": role}, status=status)


@require_safe
def tenant(request: PageRequest, principal: ConsolePrincipal, tenant_id: UUID) -> HttpResponse:
    found = _open(principal, tenant_id)
    at, inside = timezone.now(), _within(request, principal, found)
    offers = access.open_invitations(inside).order_by("-created_at", "-id")[:INVITATIONS_SHOWN]
    members_shown = access.members_of(inside).order_by("-created_at", "-id")[:MEMBERS_SHOWN]
    events = AuditEvent.objects.filter(target_id=found.id, environment_id=found.environment_id).order_by("-at", "-id")
    context = {
        "row": TenantRow(found, request.place, at),
        "tenant": found,
        "facts": _facts(found),
        "invitations": [InvitationOfTenant(offer, request.place, at) for offer in offers],
        "may_revoke": principal.holds("members:delete") and found.deleted_at is None,
        "members": [MemberOfTenant(member, principal, request.place) for member in members_shown],
        "members_most": MEMBERS_SHOWN,
        "events": event_rows(events[:20]) if principal.holds("audit:read") else [],
        "portal_address": f"{settings.ORIGIN}/t/{found.slug}/tokens/",
        "invitation": InvitationForm(environment=principal.environment),
    }
    return render(request, "console/tenants/detail.html", context)


@require_http_methods(FORM)
def tenant_edit(request: PageRequest, principal: ConsolePrincipal, tenant_id: UUID) -> HttpResponse:
    found = _open(principal, tenant_id)
    if request.method != "POST":
        access.require(principal, "tenants:create")
    state = tenants.snapshot(found)
    data = request.POST if request.method == "POST" else None
    form = TenantForm(data, initial={**state, "external_id": found.external_id or ""}, version=version_of(state))
    if form.is_valid():
        change = {**form.cleaned_data}
        expected = change.pop("version") or ""
        try:
            tenants.edit(by=principal, tenant=found, at=timezone.now(), expected=expected, **change)
        except Refusal as refusal:
            if not refusal.field and refusal.code != "stale":
                raise
            form.add_refusal(refusal)
        else:
            messages.success(request, _("The tenant was changed."))
            return redirect(request.place.url("tenant", found.id))
    context = {"form": form, "tenant": found, "row": TenantRow(found, request.place, timezone.now())}
    return render(request, "console/tenants/edit.html", context, status=UNPROCESSABLE if form.errors else 200)


@require_http_methods(["POST"])
def tenant_invite(request: PageRequest, principal: ConsolePrincipal, tenant_id: UUID) -> HttpResponse:
    """The exception to redirect-after-post: without mail the one-time link is in this answer and nowhere else."""
    found = _open(principal, tenant_id)
    form = InvitationForm(request.POST, environment=principal.environment)
    context = {"tenant": found, "row": TenantRow(found, request.place, timezone.now()), "form": form}
    if form.is_valid():
        data = form.cleaned_data
        try:
            invited = invitations.invite(
                by=principal, tenant=found, email=data["email"], roles=[data["roles"]], at=timezone.now()
            )
        except Refusal as refusal:
            if not refusal.field:
                raise
            form.add_refusal(refusal)
        else:
            return render(request, "console/tenants/invited.html", {**context, "invited": invited})
    return render(request, "console/tenants/invite.html", context, status=UNPROCESSABLE)


@require_POST
def invitation_revoke(
    request: PageRequest, principal: ConsolePrincipal, tenant_id: UUID, tenant_invitation_id: UUID
) -> HttpResponse:
    inside = _within(request, principal, _open(principal, tenant_id))
    found = access.open_invitation(inside, tenant_invitation_id)
    invitations.revoke(by=inside, invitation=found, at=timezone.now())
    messages.success(request, _("The invitation is revoked: its link opens nothing any more."))
    return redirect(request.place.url("tenant", tenant_id))


@require_POST
def member_suspend(
    request: PageRequest, principal: ConsolePrincipal, tenant_id: UUID, membership_id: UUID
) -> HttpResponse:
    inside = _within(request, principal, _open(principal, tenant_id))
    members.suspend(by=inside, membership=access.open_member(inside, membership_id), at=timezone.now())
    messages.success(request, _("They are suspended: they can't sign in there, and their personal tokens stop now."))
    return redirect(request.place.url("tenant", tenant_id))


@require_POST
def member_reinstate(
    request: PageRequest, principal: ConsolePrincipal, tenant_id: UUID, membership_id: UUID
) -> HttpResponse:
    inside = _within(request, principal, _open(principal, tenant_id))
    members.reinstate(by=inside, membership=access.open_member(inside, membership_id), at=timezone.now())
    messages.success(request, _("They are back. JWTs of their tokens from before stay dead."))
    return redirect(request.place.url("tenant", tenant_id))


@require_http_methods(FORM)
def tenant_suspend(request: PageRequest, principal: ConsolePrincipal, tenant_id: UUID) -> HttpResponse:
    found = _open(principal, tenant_id)
    url = request.place.url("tenant", found.id)
    question = Question(
        permission="tenants:delete",
        heading=_("Suspend “%(name)s”?") % {"name": found.name},
        points=[
            _("Its tokens stop at once, and its people can't open its portal."),
            _("JWTs issued until now stay dead at our API, also after it is reinstated."),
            _("Nothing is lost: reinstated, all its tokens work as before."),
        ],
        submit_label=_("Suspend the tenant"),
        back_url=url,
        back_label=found.name,
        done=_("The tenant is suspended."),
        done_url=url,
    )
    return ask(
        request, principal, question, lambda _name: tenants.suspend(by=principal, tenant=found, at=timezone.now())
    )


@require_http_methods(["POST"])
def tenant_reinstate(request: PageRequest, principal: ConsolePrincipal, tenant_id: UUID) -> HttpResponse:
    found = _open(principal, tenant_id)
    tenants.reinstate(by=principal, tenant=found, at=timezone.now())
    messages.success(request, _("The tenant works again. JWTs issued before it was suspended stay dead."))
    return redirect(request.place.url("tenant", found.id))


@require_http_methods(FORM)
def tenant_delete(request: PageRequest, principal: ConsolePrincipal, tenant_id: UUID) -> HttpResponse:
    found = _open(principal, tenant_id)
    url = request.place.url("tenant", found.id)
    suspend = (
        _("Suspend it instead: it stops just as soon, and nothing is erased."),
        _("Suspend…"),
        request.place.url("tenant-suspend", found.id),
    )
    question = Question(
        permission="tenants:delete",
        heading=_("Delete “%(name)s”?") % {"name": found.name},
        warning=_("After %(days)s days this cannot be undone.") % {"days": DAYS_HELD},
        points=[
            _("Its tokens stop at once, and its people can't open its portal."),
            _("For %(days)s days you can restore it. Then it is erased, with its members, roles and tokens.")
            % {"days": DAYS_HELD},
            _("Its address is never used again. The record of what was done in it stays."),
        ],
        submit_label=_("Delete the tenant"),
        back_url=url,
        back_label=found.name,
        done=_("The tenant is deleted. It can be restored for %(days)s days.") % {"days": DAYS_HELD},
        done_url=url,
        typed=found.name,
        instead=None if found.suspended_at else suspend,
    )
    return ask(
        request,
        principal,
        question,
        lambda name: tenants.delete(by=principal, tenant=found, typed_name=name, at=timezone.now()),
    )


@require_http_methods(["POST"])
def tenant_restore(request: PageRequest, principal: ConsolePrincipal, tenant_id: UUID) -> HttpResponse:
    found = _open(principal, tenant_id)
    tenants.restore(by=principal, tenant=found, at=timezone.now())
    messages.success(request, _("The tenant is restored. JWTs issued before it was deleted stay dead."))
    return redirect(request.place.url("tenant", found.id))


def _open(principal: ConsolePrincipal, tenant_id: UUID) -> Tenant:
    found = _counted(access.visible_tenants(principal)).filter(pk=tenant_id).first()
    if found is None:
        raise Http404
    return found


def _within(request: PageRequest, principal: ConsolePrincipal, found: Tenant) -> ConsolePrincipal:
    """The same person, acting in that one tenant."""
    return access.of_vendor_membership(principal.vendor_membership, principal.environment, request, found)


def _counted(rows: QuerySet[Tenant]) -> QuerySet[Tenant]:
    return rows.annotate(
        member_count=_count(Membership.objects.filter(ended_at__isnull=True)),
        token_count=_count(ApiToken.objects.all()),
    )


def _count(rows: QuerySet[Any]) -> Coalesce:
    """In a subquery: two joins would multiply each other."""
    counted = rows.filter(tenant=OuterRef("pk")).order_by().values("tenant").annotate(number=Count("pk"))
    return Coalesce(Subquery(counted.values("number"), output_field=IntegerField()), 0)


def _facts(found: Tenant) -> list[tuple[str, str]]:
    return [
        (_("Id"), str(found.id)),
        (_("External id"), found.external_id or _("none")),
        (_("Address"), found.slug),
        (_("Made"), at_moment(found.created_at)),
    ]


_to_tenants = console_page("tenants:read")


urlpatterns = [
    path("tenants/", _to_tenants(tenant_list), name="tenants"),
    path("tenants/new/", _to_tenants(tenant_new), name="tenant-new"),
    path("tenants/<uuid:tenant_id>/", _to_tenants(tenant), name="tenant"),
    path("tenants/<uuid:tenant_id>/edit/", _to_tenants(tenant_edit), name="tenant-edit"),
    path("tenants/<uuid:tenant_id>/invite/", _to_tenants(tenant_invite), name="tenant-invite"),
    path(
        "tenants/<uuid:tenant_id>/invitations/<uuid:tenant_invitation_id>/revoke/",
        _to_tenants(invitation_revoke),
        name="tenant-invitation-revoke",
    ),
    path(
        "tenants/<uuid:tenant_id>/members/<uuid:membership_id>/suspend/",
        _to_tenants(member_suspend),
        name="tenant-member-suspend",
    ),
    path(
        "tenants/<uuid:tenant_id>/members/<uuid:membership_id>/reinstate/",
        _to_tenants(member_reinstate),
        name="tenant-member-reinstate",
    ),
    path("tenants/<uuid:tenant_id>/suspend/", _to_tenants(tenant_suspend), name="tenant-suspend"),
    path("tenants/<uuid:tenant_id>/reinstate/", _to_tenants(tenant_reinstate), name="tenant-reinstate"),
    path("tenants/<uuid:tenant_id>/delete/", _to_tenants(tenant_delete), name="tenant-delete"),
    path("tenants/<uuid:tenant_id>/restore/", _to_tenants(tenant_restore), name="tenant-restore"),
]
