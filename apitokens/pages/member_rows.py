"""People and invitations as pages show them: words instead of codes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apitokens.pages.places import PagePrincipal, Place
from audit.words import listed
from tenants.models import Invitation, Membership, VendorMembership

ROLE_NAMES = {
    VendorMembership.Role.OWNER: gettext_lazy("Owner"),
    VendorMembership.Role.ADMIN: gettext_lazy("Admin"),
    VendorMembership.Role.AUDITOR: gettext_lazy("Auditor"),
}


@dataclass(frozen=True)
class WhoRow:
    """What a member and somebody of the vendor have in common."""

    member: Membership | VendorMembership
    principal: PagePrincipal
    place: Place

    @property
    def id(self) -> str:
        return str(self.member.id)

    @property
    def name(self) -> str:
        return str(self.member.user)

    @property
    def email(self) -> str:
        """Beside the name, where there is one; else it is the name."""
        return (self.member.user.email or "") if self.member.user.name else ""

    @property
    def since(self) -> datetime:
        return self.member.created_at

    @property
    def is_suspended(self) -> bool:
        return self.member.suspended_at is not None

    @property
    def state(self) -> str:
        return "suspended" if self.is_suspended else "usable"

    @property
    def state_label(self) -> str:
        return _("Suspended") if self.is_suspended else _("Active")


@dataclass(frozen=True)
class MemberRow(WhoRow):
    """A member with their roles (`access.members_of`)."""

    member: Membership

    @property
    def is_you(self) -> bool:
        return self.principal.membership is not None and self.principal.membership.pk == self.member.pk

    @property
    def roles_label(self) -> str:
        return listed(role.name for role in self.member.roles.all()) or _("No role")

    @property
    def level(self) -> int | None:
        return max((role.level for role in self.member.roles.all()), default=None)

    @property
    def url(self) -> str:
        return self.place.url("member", self.member.id)

    @property
    def suspend_url(self) -> str:
        return self.place.url("member-suspend", self.member.id)

    @property
    def reinstate_url(self) -> str:
        return self.place.url("member-reinstate", self.member.id)

    @property
    def remove_url(self) -> str:
        return self.place.url("leave") if self.is_you else self.place.url("member-remove", self.member.id)


@dataclass(frozen=True)
class PersonRow(WhoRow):
    """Somebody of the vendor with their environments (`access.vendors_people`)."""

    member: VendorMembership

    @property
    def is_you(self) -> bool:
        return self.principal.vendor_membership == self.member

    @property
    def role_label(self) -> str:
        return str(ROLE_NAMES[VendorMembership.Role(self.member.role)])

    @property
    def environments_label(self) -> str:
        return environments_label(self.member)

    @property
    def url(self) -> str:
        return self.place.url("person", self.member.id)

    @property
    def suspend_url(self) -> str:
        return self.place.url("person-suspend", self.member.id)

    @property
    def reinstate_url(self) -> str:
        return self.place.url("person-reinstate", self.member.id)

    @property
    def remove_url(self) -> str:
        return self.place.url("person-remove", self.member.id)


@dataclass(frozen=True)
class InvitationRow:
    invitation: Invitation
    place: Place
    at: datetime

    @property
    def email(self) -> str:
        return self.invitation.email

    @property
    def offer_label(self) -> str:
        if self.invitation.tenant_id is None:
            role = ROLE_NAMES[VendorMembership.Role(self.invitation.vendor_role)]
            return f"{role} · {environments_label(self.invitation)}"
        return listed(role.name for role in self.invitation.roles.all())

    @property
    def expires_at(self) -> datetime:
        return self.invitation.expires_at

    @property
    def has_expired(self) -> bool:
        return self.invitation.expires_at <= self.at

    @property
    def revoke_url(self) -> str:
        name = "invitation-revoke" if self.invitation.tenant_id else "person-invitation-revoke"
        return self.place.url(name, self.invitation.id)


def environments_label(row: VendorMembership | Invitation) -> str:
    if row.in_all_environments:
        return _("All environments")
    return listed(environment.name for environment in row.environments.all())
