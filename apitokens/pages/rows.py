"""Tokens and events as pages show them: words instead of codes, and what the person may do about each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from django.utils.html import escape
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apitokens import access, flags, policy
from apitokens.flags import Flag
from apitokens.governance.members import TOKENS_KEPT
from apitokens.models import ApiToken, Kind, Owner
from apitokens.pages.changes import changes
from apitokens.pages.places import PagePrincipal, Place
from apitokens.pages.reasons import reason_in_words
from apitokens.pages.targets import known
from apitokens.pages.words import KINDS, at_moment, last_used_in_words
from apitokens.policy import Beyond, State
from apitokens.principals import ConsolePrincipal
from apitokens.services import is_own, needs
from audit.models import ActorKind, AuditEvent, Outcome
from audit.words import listed

RECENTLY = timedelta(days=7)
STATES = {
    State.USABLE: ("usable", gettext_lazy("Active")),
    State.DISABLED: ("disabled", gettext_lazy("Disabled")),
    State.NOT_YET: ("not-yet", gettext_lazy("Not yet")),
    State.EXPIRED: ("expired", gettext_lazy("Expired")),
    State.NO_AUDIENCE: ("powerless", gettext_lazy("None of its APIs is left")),
    State.POWERLESS: ("powerless", gettext_lazy("Nothing left to do")),
    State.TYPE_DISABLED: ("suspended", gettext_lazy("Switched off by the vendor")),
    State.OWNER_SUSPENDED: ("suspended", gettext_lazy("Owner suspended")),
    State.OWNER_LEFT: ("suspended", gettext_lazy("Owner has left")),
    State.TENANT_SUSPENDED: ("suspended", gettext_lazy("Tenant suspended")),
    State.ENVIRONMENT_SUSPENDED: ("suspended", gettext_lazy("Environment suspended")),
}
FLAGS = {
    Flag.SECRET_KNOWN_TO_FORMER_MEMBER: (
        gettext_lazy("Secret known to a former member"),
        gettext_lazy("Somebody who has left was shown a secret that still works. Rotate it, and stop the old secret."),
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
    Beyond.NO_IP_ALLOWLIST: gettext_lazy("It may be used from anywhere: say from which networks."),
    Beyond.ROLE: gettext_lazy("It has a role that such tokens may no longer carry: make a new one without it."),
}
VERBS = {
    "apitoken.issued": gettext_lazy("Made the token"),
    "apitoken.edited": gettext_lazy("Changed the token"),
    "apitoken.disabled": gettext_lazy("Disabled the token"),
    "apitoken.enabled": gettext_lazy("Enabled the token"),
    "apitoken.jwts_ended": gettext_lazy("Ended its JWTs"),
    "apitoken.jwt_revoked": gettext_lazy("Ended one of its JWTs"),
    "apitoken.deleted": gettext_lazy("Deleted the token"),
    "apitoken.rotated": gettext_lazy("Rotated the token"),
    "apitoken.rotation_completed": gettext_lazy("Completed the rotation"),
    "apitoken.rotation_cancelled": gettext_lazy("Cancelled the rotation"),
    "apitoken.retired_secret_used": gettext_lazy("Presented a secret that was retired"),
    "apitoken.wrong_secret": gettext_lazy("Somebody presented a wrong secret of it"),
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
    "invitation.replaced": gettext_lazy("Replaced an invitation by a new one"),
    "vendor_invitation.replaced": gettext_lazy("Replaced an invitation to the vendor by a new one"),
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
    "portal_session.created": gettext_lazy("Opened the portal for somebody"),
    "portal_session.opened": gettext_lazy("Came in from the vendor's product"),
    "portal_session.ended": gettext_lazy("Ended a portal session"),
    "user.erased": gettext_lazy("Erased a person"),
    "admin.changed": gettext_lazy("Changed by the operator"),
    "access.denied": gettext_lazy("Asked for what needs a permission"),
    "sso.configured": gettext_lazy("Set single sign-on up"),
    "sso.changed": gettext_lazy("Changed single sign-on"),
    "sso.removed": gettext_lazy("Removed single sign-on"),
    "sso.admitted": gettext_lazy("Came in by single sign-on"),
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
    "brand.changed": gettext_lazy("Changed the brand of the environment"),
    "environment.configuration_copied": gettext_lazy("Copied the configuration of another environment"),
    "signing_key.published": gettext_lazy("Published the next signing key"),
    "signing_key.activated": gettext_lazy("Let the signing key take over"),
    "signing_key.replaced": gettext_lazy("Let the signing key sign no more"),
    "signing_key.retired": gettext_lazy("Retired the signing key"),
    "signing_key.compromised": gettext_lazy("Declared the signing key compromised"),
    "signing_key.reencrypted": gettext_lazy("Encrypted the signing key anew"),
}
# The same where it was refused, and so did not happen. What is missing here is never refused, or says so itself.
TRIED = {
    "apitoken.issued": gettext_lazy("Tried to make a token"),
    "apitoken.edited": gettext_lazy("Tried to change the token"),
    "apitoken.disabled": gettext_lazy("Tried to disable tokens"),
    "apitoken.enabled": gettext_lazy("Tried to enable the token"),
    "apitoken.jwts_ended": gettext_lazy("Tried to end its JWTs"),
    "apitoken.jwt_revoked": gettext_lazy("Tried to end one of its JWTs"),
    "apitoken.deleted": gettext_lazy("Tried to delete the token"),
    "apitoken.rotated": gettext_lazy("Tried to rotate the token"),
    "apitoken.rotation_completed": gettext_lazy("Tried to complete the rotation"),
    "apitoken.rotation_cancelled": gettext_lazy("Tried to cancel the rotation"),
    "token_type.changed": gettext_lazy("Tried to change which tokens may exist"),
    "membership.roles_changed": gettext_lazy("Tried to change a member's roles"),
    "membership.suspended": gettext_lazy("Tried to suspend a member"),
    "membership.reinstated": gettext_lazy("Tried to reinstate a member"),
    "membership.ended": gettext_lazy("Tried to remove a member"),
    "membership.left": gettext_lazy("Tried to leave the tenant"),
    "invitation.sent": gettext_lazy("Tried to invite somebody"),
    "invitation.revoked": gettext_lazy("Tried to revoke an invitation"),
    "invitation.accepted": gettext_lazy("Tried to accept an invitation"),
    "portal_session.created": gettext_lazy("Tried to open the portal for somebody"),
    "portal_session.ended": gettext_lazy("Tried to end portal sessions"),
    "sso.configured": gettext_lazy("Tried to set single sign-on up"),
    "sso.changed": gettext_lazy("Tried to change single sign-on"),
    "sso.removed": gettext_lazy("Tried to remove single sign-on"),
    "sso.admitted": gettext_lazy("Was not let in by single sign-on"),
    "membership.resumed": gettext_lazy("Tried to let a removed member in again"),
    "vendor_membership.changed": gettext_lazy("Tried to change what somebody of the vendor may do"),
    "vendor_membership.suspended": gettext_lazy("Tried to suspend somebody of the vendor"),
    "vendor_membership.reinstated": gettext_lazy("Tried to reinstate somebody of the vendor"),
    "vendor_membership.ended": gettext_lazy("Tried to remove somebody of the vendor"),
    "vendor_membership.left": gettext_lazy("Tried to leave the vendor"),
    "vendor_invitation.sent": gettext_lazy("Tried to invite somebody to the vendor"),
    "vendor_invitation.revoked": gettext_lazy("Tried to revoke an invitation to the vendor"),
    "vendor_invitation.accepted": gettext_lazy("Tried to accept an invitation to the vendor"),
    "role.created": gettext_lazy("Tried to make the role"),
    "role.edited": gettext_lazy("Tried to change the role"),
    "role.deleted": gettext_lazy("Tried to delete the role"),
    "permission.created": gettext_lazy("Tried to make the permission"),
    "permission.edited": gettext_lazy("Tried to change the permission"),
    "permission.deleted": gettext_lazy("Tried to delete the permission"),
    "tenant.created": gettext_lazy("Tried to create the tenant"),
    "tenant.edited": gettext_lazy("Tried to change the tenant"),
    "tenant.suspended": gettext_lazy("Tried to suspend the tenant"),
    "tenant.reinstated": gettext_lazy("Tried to reinstate the tenant"),
    "tenant.deleted": gettext_lazy("Tried to delete the tenant"),
    "tenant.restored": gettext_lazy("Tried to restore the tenant"),
    "environment.created": gettext_lazy("Tried to create the environment"),
    "environment.edited": gettext_lazy("Tried to change the environment"),
    "environment.suspended": gettext_lazy("Tried to suspend the environment"),
    "environment.reinstated": gettext_lazy("Tried to reinstate the environment"),
    "environment.deleted": gettext_lazy("Tried to delete the environment"),
    "environment.restored": gettext_lazy("Tried to restore the environment"),
    "brand.changed": gettext_lazy("Tried to change the brand of the environment"),
    "environment.configuration_copied": gettext_lazy("Tried to copy the configuration of another environment"),
    "signing_key.published": gettext_lazy("Tried to rotate the signing key"),
    "signing_key.compromised": gettext_lazy("Tried to declare a signing key compromised"),
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
    def known_by(self) -> SafeString:
        """Its id, and how it proves itself."""
        values = {"id": escape(self.token_id), "last_four": escape(self.last_four)}
        if self.last_four:
            return SafeString(_("<code>%(id)s</code> · ends in <code>%(last_four)s</code>") % values)
        if self.has_proof:
            return SafeString(_("<code>%(id)s</code> · by a public key") % values)
        return SafeString(_("<code>%(id)s</code> · no secret yet") % values)

    @property
    def tick_label(self) -> str:
        return _("Tick %(name)s") % {"name": self.name}

    @property
    def actions_label(self) -> str:
        return _("Actions for %(name)s") % {"name": self.name}

    @property
    def has_proof(self) -> bool:
        """Whether a secret or a public key of it works; without one nobody can use it."""
        return self.token.last_four is not None

    @property
    def is_by_key(self) -> bool:
        """Of a public key there are no last four characters."""
        return self.token.last_four == ""

    @property
    def last_used_at(self) -> datetime | None:
        return self.token.last_used_at

    @property
    def last_used_ip(self) -> str | None:
        return self.token.last_used_ip

    @property
    def last_used_label(self) -> str:
        return last_used_in_words(self.token.last_used_at, self.token.last_used_ip, never=_("never"))

    @property
    def is_in_use(self) -> bool:
        """Whether it was used so recently that something surely depends on it."""
        return self.token.last_used_at is not None and self.token.last_used_at > self.at - RECENTLY

    @property
    def roles_label(self) -> str:
        if self.token.granted_through == "owner":
            return _("Same as its owner")
        names = sorted({row[1] for row in self.token.role_rows})
        return listed(names) if names else _("Picked permissions")

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

    @cached_property
    def _shown_state(self) -> tuple[str, str]:
        """Nothing above it stands in its way, and still nobody can use it while it has no secret."""
        if self._state == State.USABLE and not self.has_proof:
            return "powerless", _("No secret yet")
        code, label = STATES[self._state]
        if self._state == State.NOT_YET and self.token.not_before:
            return code, _("Starts on %(at)s") % {"at": at_moment(self.token.not_before)}
        return code, str(label)

    @property
    def state(self) -> str:
        return self._shown_state[0]

    @property
    def state_code(self) -> str:
        """The state as the API and files name it."""
        return self._state

    @property
    def state_label(self) -> str:
        return self._shown_state[1]

    @property
    def erased_at(self) -> datetime | None:
        """When it will be deleted, if its owner has left and does not come back."""
        member = self.token.membership or self.token.vendor_membership
        return member.ended_at + TOKENS_KEPT if member and member.ended_at else None

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

    @cached_property
    def can_disable(self) -> bool:
        return self.token.disabled_at is None and self._may("delete")

    @cached_property
    def can_enable(self) -> bool:
        return self.token.disabled_at is not None and self._is_mine_to_change and self._may("create")

    @cached_property
    def can_delete(self) -> bool:
        return self._may("delete")

    @property
    def can_complete(self) -> bool:
        """The old version of its secret may be stopped before its time."""
        return self.is_changed_here and self._may("delete")

    @property
    def can_rotate(self) -> bool:
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
        return self.place.url_of_token(name, self.token.token_id)

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
    def rotate_url(self) -> str:
        return self._url("token-rotate")

    @property
    def rotation_complete_url(self) -> str:
        return self._url("token-rotation-complete")

    @property
    def rotation_cancel_url(self) -> str:
        return self._url("token-rotation-cancel")


@dataclass(frozen=True)
class EventRow:
    event: AuditEvent
    actor: str
    # Shown where the record is that of a whole environment.
    tenant: str = ""
    target: str = ""
    changes: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        return str(self.event.id)

    @property
    def at(self) -> datetime:
        return self.event.at

    @property
    def verb_label(self) -> str:
        verb = self.event.verb
        return str(TRIED.get(verb) if self.refused and verb in TRIED else VERBS.get(verb, verb))

    @property
    def what(self) -> str:
        """What was done, and to whom or what, unless it is who did it."""
        about = self.target if self.target != self.actor else ""
        return " · ".join(filter(None, [self.verb_label, about]))

    @property
    def who(self) -> str:
        """Who, in which tenant, why it was refused, and from where."""
        tenant = self.tenant if self.tenant != self.target else ""
        return " · ".join(filter(None, [self.actor, tenant, reason_in_words(self.event.reason), self.event.ip]))

    @property
    def refused(self) -> bool:
        return self.event.outcome == Outcome.REFUSED


def event_rows(events: Iterable[AuditEvent], *, with_tenants: bool = False) -> list[EventRow]:
    """The events with the names behind their actors, their targets and, if asked for, their tenants.

    A number of queries that depends on the kinds of things among the targets, not on how many events there are.
    """
    events = list(events)
    found = known(events, with_tenants=with_tenants)
    words = {ActorKind.SYSTEM: _("System"), ActorKind.TOKEN: _("A token"), ActorKind.USER: _("A former member")}
    return [
        EventRow(
            event,
            actor=found.people.get(event.actor_id) or words[ActorKind(event.actor_kind)],
            tenant=found.things.get(event.tenant_id, "") if with_tenants else "",
            target=found.target(event),
            changes=changes(event, found),
        )
        for event in events
    ]
