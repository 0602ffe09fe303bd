"""Roles on pages: a tenant's own and the vendor's in the portal, all of an environment's in the console."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from apitokens import access
from apitokens.access import grantor_for
from apitokens.governance import roles
from apitokens.governance.impact import Impact
from apitokens.governance.in_use import in_words
from apitokens.governance.roles import MOST_ROLES
from apitokens.models import ApiTokenRole
from apitokens.orders import InvalidField
from apitokens.pages.places import PagePrincipal, PageRequest, Place
from apitokens.pages.role_forms import DeletionForm, NewRoleForm, RoleForm, replacements
from apitokens.pages.rows import TokenRow
from apitokens.setup import BUILT_IN
from audit.services import Refusal
from tenants.models import Membership, MembershipRole, Role
from tenants.policy import Grantor, HeldRole, PermissionMissing, why_not
from tenants.queries import available_roles, held_roles

UNPROCESSABLE = 422
# Of those who have a role, how many its page names.
NAMED = 50
FORM = ["GET", "HEAD", "POST"]
# A form that would take something from somebody is answered by a page that says so, and sent again from there.
SAVE, EDIT = "save", "edit"


@dataclass(frozen=True, kw_only=True)
class RoleRow:
    """A role with what it holds and, where counted, how many have it."""

    role: Role
    held: HeldRole
    principal: PagePrincipal
    place: Place
    grantor: Grantor

    @property
    def name(self) -> str:
        return self.role.name

    @property
    def key(self) -> str:
        return self.role.key

    @property
    def level(self) -> int:
        return self.role.level

    @property
    def is_for_new_tenants(self) -> bool:
        return self.role.is_for_new_tenants

    @property
    def tenant(self) -> str:
        """Whose own it is; empty for the vendor's."""
        return self.role.tenant.name if self.role.tenant else ""

    @property
    def permissions(self) -> list[str]:
        return sorted(key for key in self.held.permissions if key not in BUILT_IN)

    @property
    def built_in(self) -> list[str]:
        return sorted(key for key in self.held.permissions if key in BUILT_IN)

    @property
    def members(self) -> int:
        return int(self.role.member_count)  # type: ignore[attr-defined]  # annotated

    @property
    def tokens(self) -> int:
        return int(self.role.token_count)  # type: ignore[attr-defined]  # annotated

    @property
    def because(self) -> str:
        """Why the person can't change it, in words; empty if they can, or if it is not theirs to change at all."""
        if not self._is_ours:
            return _("It is the vendor's, the same for all tenants.")
        because = why_not(self.grantor, self.held, strict=self.role.environment.strict_ceiling)
        return _("You can't change it: %(because)s") % {"because": because} if because else ""

    @property
    def _is_ours(self) -> bool:
        return self.principal.tenant is None or self.role.tenant_id == self.principal.tenant.id

    def _may(self, permission: str) -> bool:
        return self.principal.holds(permission) and not self.because

    @property
    def can_edit(self) -> bool:
        return self._may("roles:create")

    @property
    def can_delete(self) -> bool:
        return self._may("roles:delete")

    @property
    def url(self) -> str:
        return self.place.url("role", self.role.id)

    @property
    def edit_url(self) -> str:
        return self.place.url("role-edit", self.role.id)

    @property
    def delete_url(self) -> str:
        return self.place.url("role-delete", self.role.id)


@require_safe
def role_list(request: PageRequest, principal: PagePrincipal) -> HttpResponse:
    """The tenant's own first: those can be changed here. Both sorts are bounded where they are made."""
    found = counted(available_roles(principal.environment, principal.tenant), principal)
    found = found.select_related("tenant", "environment").order_by("-level", "key")
    rows = role_rows(found[: 2 * MOST_ROLES], request, principal)
    context = {
        "own": [row for row in rows if row.tenant],
        "vendors": [row for row in rows if not row.tenant],
        "can_create": principal.holds("roles:create"),
        "create_url": request.place.url("role-new"),
    }
    return render(request, "portal/roles/list.html", context)


@require_safe
def role(request: PageRequest, principal: PagePrincipal, role_id: UUID) -> HttpResponse:
    found = _open(principal, role_id)
    row = role_rows([found], request, principal)[0]
    members = _members(principal, found)
    tokens = access.visible_tokens(principal).filter(roles=found).with_standing().with_last_four()
    at = timezone.now()
    described = access.visible_permissions(principal).filter(key__in=row.held.permissions).order_by("key")
    context = {
        "role": row,
        "permissions": [each for each in described if not each.is_built_in],
        "built_in": [each for each in described if each.is_built_in],
        "sees_members": principal.holds("members:read"),
        "members": list(members[:NAMED]) if principal.holds("members:read") else [],
        "tokens": [TokenRow(each, principal, at, request.place) for each in tokens.order_by("name_key", "id")[:NAMED]],
        "named_at_most": NAMED,
    }
    return render(request, "portal/roles/detail.html", context)


@require_http_methods(FORM)
def role_new(request: PageRequest, principal: PagePrincipal) -> HttpResponse:
    if request.method != "POST":
        access.require(principal, "roles:create")
    offered = access.visible_permissions(principal)
    form = NewRoleForm(
        request.POST if request.method == "POST" else None, offered=offered, grantor=grantor_for(principal)
    )
    if form.is_valid():
        data = form.cleaned_data
        asked = {"key": data["key"], "name": data["name"], "level": data["level"], "permissions": form.keys()}
        try:
            made = roles.create(by=principal, tenant=principal.tenant, at=timezone.now(), **asked)
        except PermissionMissing:
            raise
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            messages.success(request, _("The role %(name)s was made.") % {"name": made.name})
            return redirect(request.place.url("role", made.id))
    context = {"form": form, "role": None, "back_url": request.place.url("roles")}
    return render(request, "portal/roles/form.html", context, status=UNPROCESSABLE if form.errors else 200)


@require_http_methods(FORM)
def role_edit(request: PageRequest, principal: PagePrincipal, role_id: UUID) -> HttpResponse:
    """A change that takes something from a token is shown first, and saved from the page that shows it."""
    found = _open(principal, role_id)
    if request.method != "POST":
        access.require(principal, "roles:create")
    row = role_rows([found], request, principal)[0]
    form = RoleForm(
        request.POST if request.method == "POST" else None,
        offered=access.visible_permissions(principal),
        grantor=row.grantor,
        held=row.held,
        version=roles.version(found, row.held),
        initial={"name": found.name, "level": found.level},
    )
    if form.is_valid() and request.POST.get("step") != EDIT:
        changes, expected = {found.id: form.change()}, {found.id: form.cleaned_data["version"]}
        try:
            if request.POST.get("step") != SAVE:
                impact = roles.preview(by=principal, changes=changes, at=timezone.now(), expected=expected)
                if impact.count:
                    heading = _("Change the role %(name)s?") % {"name": found.name}
                    return review(request, principal, impact, heading=heading, submit_label=_("Change the role"))
            roles.edit_many(by=principal, changes=changes, at=timezone.now(), expected=expected)
        except PermissionMissing:
            raise
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            messages.success(request, _("The role was changed."))
            return redirect(row.url)
    context = {"form": form, "role": row, "back_url": row.url}
    return render(request, "portal/roles/form.html", context, status=UNPROCESSABLE if form.errors else 200)


@require_http_methods(FORM)
def role_delete(request: PageRequest, principal: PagePrincipal, role_id: UUID) -> HttpResponse:
    """Asks on a page of its own what becomes of those who have it, and shows who would lose what."""
    found = _open(principal, role_id)
    if request.method != "POST":
        access.require(principal, "roles:delete")
    row = role_rows([found], request, principal)[0]
    usage = roles.usage_of(found, at=timezone.now(), tenant=principal.tenant)
    form = DeletionForm(
        request.POST if request.method == "POST" else None,
        others=_others(principal, found, row.grantor),
        version=roles.version(found, row.held),
        is_used=any(usage.values()),
    )
    if form.is_valid() and request.POST.get("step") != EDIT:
        asked = {
            "by": principal,
            "role": found,
            "at": timezone.now(),
            "expected": form.cleaned_data["version"],
        }
        try:
            asked["replacement"] = _named(principal, form.replacement_id)
            if request.POST.get("step") != SAVE:
                impact = roles.preview_delete(**asked)
                if impact.count:
                    heading = _("Delete the role %(name)s?") % {"name": found.name}
                    return review(
                        request, principal, impact, heading=heading, submit_label=_("Delete the role"), tone="danger"
                    )
            # What nobody has can't be in use; what somebody gets in this moment makes it refused, not lost.
            roles.delete(**asked, force=any(usage.values()) and not form.replacement_id)
        except PermissionMissing:
            raise
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            messages.success(request, _("The role %(name)s was deleted.") % {"name": found.name})
            return redirect(request.place.url("roles"))
    context = {"form": form, "role": row, "usage": in_words(usage)}
    return render(request, "portal/roles/delete.html", context, status=UNPROCESSABLE if form.errors else 200)


def review(
    request: PageRequest,
    principal: PagePrincipal,
    impact: Impact,
    *,
    heading: str,
    submit_label: str,
    tone: str = "primary",
    gains: Iterable[tuple[str, list[str]]] = (),
) -> HttpResponse:
    """Who would lose what, before it happens. The form is sent again from here, as it was."""
    seen = access.only_visible(principal, [loss.token_id for loss in impact.rows])
    losses = [(loss, _token_url(request, loss.token_id)) for loss in impact.rows if loss.token_id in seen]
    context = {
        "heading": heading,
        "impact": impact,
        "losses": losses,
        "unnamed": impact.count - len(losses),
        "gains": list(gains),
        "sent": sent_again(request),
        "submit_label": submit_label,
        "tone": tone,
    }
    return render(request, "portal/roles/review.html", context)


def sent_again(request: HttpRequest) -> list[tuple[str, str]]:
    """What a form had in it, for hidden fields; what the frame of every form adds is not part of it."""
    frame = {"csrfmiddlewaretoken", "environment", "step"}
    return [(name, value) for name, values in request.POST.lists() if name not in frame for value in values]


def role_rows(found: Iterable[Role], request: PageRequest, principal: PagePrincipal) -> list[RoleRow]:
    found = list(found)
    held, grantor = held_roles(found), grantor_for(principal)
    return [
        RoleRow(role=each, held=held[each.id], principal=principal, place=request.place, grantor=grantor)
        for each in found
    ]


def counted(found: QuerySet[Role], principal: PagePrincipal) -> QuerySet[Role]:
    """Each with how many members and tokens have it: of the principal's tenant, or of all."""
    members = MembershipRole.objects.filter(role=OuterRef("pk"), membership__ended_at__isnull=True)
    tokens = ApiTokenRole.objects.filter(role=OuterRef("pk"))
    if principal.tenant is not None:
        members, tokens = members.filter(tenant=principal.tenant), tokens.filter(token__tenant=principal.tenant)
    return found.annotate(member_count=_count(members), token_count=_count(tokens))


def _count(rows: QuerySet[Any]) -> Coalesce:
    by_role = rows.order_by().values("role").annotate(number=Count("pk")).values("number")
    return Coalesce(Subquery(by_role[:1], output_field=IntegerField()), 0)


def _open(principal: PagePrincipal, role_id: UUID) -> Role:
    found = counted(access.visible_roles(principal), principal).filter(pk=role_id).first()
    if found is None:
        raise Http404
    return found


def _members(principal: PagePrincipal, found: Role) -> QuerySet[Membership]:
    members = Membership.objects.filter(roles=found, ended_at__isnull=True).select_related("user", "tenant")
    if principal.tenant is not None:
        members = members.filter(tenant=principal.tenant)
    return members.order_by("-created_at", "-id")


def _others(principal: PagePrincipal, found: Role, grantor: Grantor) -> list[tuple[str, str]]:
    others = available_roles(principal.environment, found.tenant).exclude(pk=found.pk).order_by("level", "key")
    rows = list(others[: 2 * MOST_ROLES])
    held: Mapping[UUID, HeldRole] = held_roles(rows)
    return replacements(rows, dict(held), grantor, strict=principal.environment.strict_ceiling)


def _named(principal: PagePrincipal, role_id: str) -> Role | None:
    """The role that was chosen; raises InvalidField for one that is not there, or not any more."""
    if not role_id:
        return None
    try:
        return access.open_role(principal, UUID(role_id))
    except (ValueError, Http404) as error:
        raise InvalidField("replacement", _("This role is not there any more: choose another one.")) from error


def _token_url(request: PageRequest, token_id: str) -> str:
    return request.place.url("token", token_id)
