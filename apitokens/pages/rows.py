"""Tokens and events as pages show them: words instead of codes, and what the person may do about each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from uuid import UUID

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apitokens import access, flags, policy
from apitokens.flags import Flag
from apitokens.models import ApiToken, Kind, Owner
from apitokens.pages.places import PagePrincipal, Place
from apitokens.policy import Beyond, State
from apitokens.principals import ConsolePrincipal
from apitokens.services import is_own, needs
from audit.models import ActorKind, AuditEvent, Outcome
from audit.queries import names_of
from tenants.models import Tenant

KINDS = {Kind.CLIENT_CREDENTIALS: gettext_lazy("Client credentials"), Kind.ACCESS_TOKEN: gettext_lazy("Access token")}
STATES = {
    State.USABLE: ("usable", gettext_lazy("Active")),
    State.DISABLED: ("disabled", gettext_lazy("Disabled")),
    State.EXPIRED: ("expired", gettext_lazy("Expired")),
    State.POWERLESS: ("powerless", gettext_lazy("Nothing left to do")),
    State.TYPE_DISABLED: ("suspended", gettext_lazy("Switched off by the vendor")),
    State.OWNER_SUSPENDED: ("suspended", gettext_lazy("Owner suspended")),
    State.TENANT_SUSPENDED: ("suspended", gettext_lazy("Tenant suspended")),
    State.ENVIRONMENT_SUSPENDED: ("suspended", gettext_lazy("Environment suspended")),
}
FLAGS = {
    Flag.SECRET_KNOWN_TO_FORMER_MEMBER: (
        gettext_lazy("Secret known to a former member"),
        gettext_lazy("Somebody who has left was shown a secret that still works. Rotate it: make a new secret."),
    ),
    Flag.CREATOR_SUSPENDED: (
        gettext_lazy("Maker suspended"),
        gettext_lazy("Whoever made it is suspended, and it goes on without them. Disable it if it should stop too."),
    ),
    Flag.CREATOR_DEMOTED: (
        gettext_lazy("More than its maker may grant"),
        gettext_lazy("Whoever made it could not grant this today. Check that it still needs all that it may do."),
    ),
    Flag.ROLE_DROPPED: (
        gettext_lazy("Role dropped"),
        gettext_lazy(
            "The level of one of its roles was raised above that of whoever granted it, and the role counts no more. "
            "Somebody of that level can grant it again."
        ),
    ),
    Flag.OUT_OF_POLICY: (gettext_lazy("Out of policy"), gettext_lazy("It could not be made today as it is.")),
}
BEYOND = {
    Beyond.LIFETIME: gettext_lazy("It expires later than is allowed now: give it an earlier date."),
    Beyond.NEVER_EXPIRES: gettext_lazy("It never expires, which is no longer allowed: give it a date."),
    Beyond.NO_IP_ALLOWLIST: gettext_lazy("It may be used from anywhere: make a new one with an IP allowlist."),
    Beyond.ROLE: gettext_lazy("It has a role that such tokens may no longer carry: make a new one without it."),
}
VERBS = {
    "apitoken.issued": gettext_lazy("Made the token"),
    "apitoken.edited": gettext_lazy("Changed the token"),
    "apitoken.disabled": gettext_lazy("Disabled the token"),
    "apitoken.enabled": gettext_lazy("Enabled the token"),
    "apitoken.jwts_ended": gettext_lazy("Ended its JWTs"),
    "apitoken.deleted": gettext_lazy("Deleted the token"),
    "apitoken.secret_renewed": gettext_lazy("Made a new secret"),
    "token_type.changed": gettext_lazy("Changed which tokens may exist"),
    "apitoken.secret_in_address": gettext_lazy("Sent its secret in an address: replace it"),
    "membership.created": gettext_lazy("Became a member"),
    "membership.resumed": gettext_lazy("Became a member again"),
    "membership.roles_changed": gettext_lazy("Changed a member's roles"),
    "membership.suspended": gettext_lazy("Suspended a member"),
    "membership.reinstated": gettext_lazy("Reinstated a member"),
    "membership.ended": gettext_lazy("Removed a member"),
    "membership.left": gettext_lazy("Left the tenant"),
    "invitation.sent": gettext_lazy("Invited somebody"),
    "invitation.revoked": gettext_lazy("Revoked an invitation"),
    "invitation.withdrawn": gettext_lazy("Withdrew an invitation that could not be mailed"),
    "invitation.accepted": gettext_lazy("Accepted an invitation"),
    "vendor_membership.created": gettext_lazy("Began to work for the vendor"),
    "vendor_membership.resumed": gettext_lazy("Works for the vendor again"),
    "vendor_membership.changed": gettext_lazy("Changed what somebody of the vendor may do"),
    "vendor_membership.suspended": gettext_lazy("Suspended somebody of the vendor"),
    "vendor_membership.reinstated": gettext_lazy("Reinstated somebody of the vendor"),
    "vendor_membership.ended": gettext_lazy("Removed somebody of the vendor"),
    "vendor_membership.left": gettext_lazy("Left the vendor"),
    "vendor_invitation.sent": gettext_lazy("Invited somebody to the vendor"),
    "vendor_invitation.revoked": gettext_lazy("Revoked an invitation to the vendor"),
    "vendor_invitation.accepted": gettext_lazy("Accepted an invitation to the vendor"),
    "apitoken.role_deleted": gettext_lazy("Lost a role that was deleted"),
    "apitoken.permission_deleted": gettext_lazy("Lost a permission that was deleted"),
    "role.created": gettext_lazy("Made the role"),
    "role.edited": gettext_lazy("Changed the role"),
    "role.deleted": gettext_lazy("Deleted the role"),
    "permission.created": gettext_lazy("Made the permission"),
    "permission.edited": gettext_lazy("Changed the permission"),
    "permission.deleted": gettext_lazy("Deleted the permission"),
    "user.erased": gettext_lazy("Erased a person"),
    "admin.changed": gettext_lazy("Changed by the operator"),
    "access.denied": gettext_lazy("Asked for what needs a permission"),
    "tenant.created": gettext_lazy("Created the tenant"),
    "tenant.edited": gettext_lazy("Changed the tenant"),
    "tenant.suspended": gettext_lazy("Suspended the tenant"),
    "tenant.reinstated": gettext_lazy("Reinstated the tenant"),
    "tenant.deleted": gettext_lazy("Deleted the tenant"),
    "tenant.restored": gettext_lazy("Restored the tenant"),
    "tenant.erased": gettext_lazy("Erased the tenant"),
    "environment.created": gettext_lazy("Created the environment"),
    "environment.edited": gettext_lazy("Changed the environment"),
    "environment.suspended": gettext_lazy("Suspended the environment"),
    "environment.reinstated": gettext_lazy("Reinstated the environment"),
    "environment.deleted": gettext_lazy("Deleted the environment"),
    "environment.restored": gettext_lazy("Restored the environment"),
    "environment.erased": gettext_lazy("Erased the environment"),
    "environment.configuration_copied": gettext_lazy("Copied the configuration of another environment"),
}


@dataclass(frozen=True)
class FlagRow:
    """What to look at about a token, and the way out."""

    code: str
    label: str
    advice: str


@dataclass(frozen=True)
class TokenRow:
    """One token, with its standing and last four characters (`with_standing`, `with_last_four`)."""

    token: ApiToken
    principal: PagePrincipal
    at: datetime
    place: Place

    @cached_property
    def now(self) -> policy.Effective:
        return policy.effective_permissions(policy.Standing.of(self.token))

    @property
    def token_id(self) -> str:
        return self.token.token_id

    @property
    def client_id(self) -> str:
        return self.token.client_id if self.token.kind == Kind.CLIENT_CREDENTIALS else ""

    @property
    def name(self) -> str:
        return self.token.name

    @property
    def description(self) -> str:
        return self.token.description

    @property
    def kind(self) -> str:
        return self.token.kind

    @property
    def kind_label(self) -> str:
        return str(KINDS[Kind(self.token.kind)])

    @property
    def owner(self) -> str:
        return self.token.owner

    @property
    def owner_label(self) -> str:
        if self.token.tenant and self.token.owner == Owner.TENANT:
            return self.token.tenant.name
        if is_own(self.principal, self.token):
            return _("You")
        member = self.token.membership or self.token.vendor_membership
        return str(member.user) if member else _("Environment")

    @property
    def tenant_label(self) -> str:
        """Where its owner does not say it already."""
        return self.token.tenant.name if self.token.tenant and self.token.owner == Owner.USER else ""

    @cached_property
    def flags(self) -> list[FlagRow]:
        """For those who are told (`access.sees_flags`); its token was read `with_suspicions`."""
        if not access.sees_flags(self.principal):
            return []
        rows = []
        for flag in flags.of(self.token, at=self.at):
            label, advice = FLAGS[flag]
            beyond = policy.beyond_type(self.token, at=self.at) if flag == Flag.OUT_OF_POLICY else ()
            words = [str(advice), *(str(BEYOND[each]) for each in beyond)]
            rows.append(FlagRow(flag, str(label), " ".join(words)))
        return rows

    @property
    def last_four(self) -> str:
        return self.token.last_four or ""

    @property
    def roles_label(self) -> str:
        if self.token.granted_through == "owner":
            return _("Same as its owner")
        names = sorted({row[1] for row in self.token.role_rows})
        return ", ".join(names) if names else _("Picked permissions")

    @property
    def created_by(self) -> str:
        if self.token.creator:
            return str(self.token.creator)
        return _("Another token") if self.token.parent_id else _("System")

    @property
    def creator_url(self) -> str:
        """In the console: all that the same person made."""
        if not isinstance(self.principal, ConsolePrincipal) or self.token.creator_id is None:
            return ""
        return f"{self.place.url('all-tokens')}?creator={self.token.creator_id}"

    @property
    def created_at(self) -> datetime:
        return self.token.created_at

    @property
    def expires_at(self) -> datetime | None:
        return self.token.expires_at

    @cached_property
    def _state(self) -> State:
        return policy.state(self.token, self.now, at=self.at)

    @property
    def state(self) -> str:
        return STATES[self._state][0]

    @property
    def state_code(self) -> str:
        """The state as the API and files name it."""
        return self._state

    @property
    def state_label(self) -> str:
        return str(STATES[self._state][1])

    def _may(self, act: str) -> bool:
        return self.principal.holds(needs(self.principal, self.token, act))

    @property
    def _is_mine_to_change(self) -> bool:
        return self.token.owner != Owner.USER or is_own(self.principal, self.token)

    @property
    def is_changed_here(self) -> bool:
        """In the console a tenant's token is looked at and stopped; what it may do and its secret are the tenant's."""
        return self.token.owner == Owner.ENVIRONMENT or not isinstance(self.principal, ConsolePrincipal)

    @property
    def can_edit(self) -> bool:
        return self.is_changed_here and self._is_mine_to_change and self._may("create")

    @property
    def can_disable(self) -> bool:
        return self.token.disabled_at is None and self._may("delete")

    @property
    def can_enable(self) -> bool:
        return self.token.disabled_at is not None and self._is_mine_to_change and self._may("create")

    @property
    def can_delete(self) -> bool:
        return self._may("delete")

    @property
    def can_renew(self) -> bool:
        return self.can_edit and self._state != State.EXPIRED

    @property
    def can_end_jwts(self) -> bool:
        return self.token.kind == Kind.CLIENT_CREDENTIALS and self._may("delete")

    @property
    def list_url(self) -> str:
        """The list that it is in."""
        return self.place.url("tokens" if self.is_changed_here else "all-tokens")

    @property
    def list_label(self) -> str:
        if not isinstance(self.principal, ConsolePrincipal):
            return _("API tokens")
        return _("Backend tokens") if self.is_changed_here else _("All tokens")

    def _url(self, name: str) -> str:
        return self.place.url(name, self.token.token_id)

    @property
    def url(self) -> str:
        return self._url("token")

    @property
    def edit_url(self) -> str:
        return self._url("token-edit")

    @property
    def disable_url(self) -> str:
        return self._url("token-disable")

    @property
    def enable_url(self) -> str:
        return self._url("token-enable")

    @property
    def end_jwts_url(self) -> str:
        return self._url("token-end-jwts")

    @property
    def delete_url(self) -> str:
        return self._url("token-delete")

    @property
    def take_over_url(self) -> str:
        return self._url("token-take-over")

    @property
    def new_secret_url(self) -> str:
        return self._url("token-new-secret")


@dataclass(frozen=True)
class EventRow:
    event: AuditEvent
    actor: str
    # Shown where the record is that of a whole environment.
    tenant: str = ""

    @property
    def id(self) -> str:
        return str(self.event.id)

    @property
    def at(self) -> datetime:
        return self.event.at

    @property
    def verb_label(self) -> str:
        return str(VERBS.get(self.event.verb, self.event.verb))

    @property
    def refused(self) -> bool:
        return self.event.outcome == Outcome.REFUSED

    @property
    def target(self) -> str:
        described = {**(self.event.before or {}), **(self.event.after or {})}
        return described.get("name") or described.get("token_id") or described.get("key") or ""

    @property
    def detail(self) -> str:
        if self.refused:
            return self.event.reason.replace("_", " ")
        if (before := self.event.before) and (after := self.event.after):
            return ", ".join(sorted(name for name in after if after[name] != before.get(name)))
        return self.event.ip or ""


def event_rows(events: Iterable[AuditEvent], *, with_tenants: bool = False) -> list[EventRow]:
    """The events with the names behind their actors, in one more query; with those of their tenants in two."""
    events = list(events)
    names = names_of(events)
    tenants: dict[UUID | None, str] = {}
    if with_tenants:
        ids = {event.tenant_id for event in events if event.tenant_id}
        tenants = dict(Tenant.objects.filter(pk__in=ids).values_list("pk", "name"))
    words = {ActorKind.SYSTEM: _("System"), ActorKind.TOKEN: _("A token"), ActorKind.USER: _("A former member")}
    return [
        EventRow(
            event,
            names.get(event.actor_id) or words[ActorKind(event.actor_kind)],
            tenants.get(event.tenant_id, ""),
        )
        for event in events
    ]
