"""Tokens and events as pages show them: words instead of codes, and what the person may do about each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from uuid import UUID

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apitokens import policy
from apitokens.models import ApiToken, Kind, Owner
from apitokens.pages.places import PagePrincipal, Place
from apitokens.policy import State
from apitokens.services import is_own, needs
from audit.models import ActorKind, AuditEvent, Outcome, Person

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
VERBS = {
    "apitoken.issued": gettext_lazy("Made the token"),
    "apitoken.edited": gettext_lazy("Changed the token"),
    "apitoken.disabled": gettext_lazy("Disabled the token"),
    "apitoken.enabled": gettext_lazy("Enabled the token"),
    "apitoken.jwts_ended": gettext_lazy("Ended its JWTs"),
    "apitoken.deleted": gettext_lazy("Deleted the token"),
    "apitoken.secret_renewed": gettext_lazy("Made a new secret"),
    "apitoken.secret_in_address": gettext_lazy("Sent its secret in an address: replace it"),
    "access.denied": gettext_lazy("Asked for what needs a permission"),
    "tenant.created": gettext_lazy("Created the tenant"),
    "environment.created": gettext_lazy("Created the environment"),
}


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
    def state_label(self) -> str:
        return str(STATES[self._state][1])

    def _may(self, act: str) -> bool:
        return self.principal.holds(needs(self.principal, self.token, act))

    @property
    def _is_mine_to_change(self) -> bool:
        return self.token.owner != Owner.USER or is_own(self.principal, self.token)

    @property
    def can_edit(self) -> bool:
        return self._is_mine_to_change and self._may("create")

    @property
    def can_disable(self) -> bool:
        return self.token.disabled_at is None and self._may("delete")

    @property
    def can_enable(self) -> bool:
        return self.token.disabled_at is not None and self.can_edit

    @property
    def can_delete(self) -> bool:
        return self._may("delete")

    @property
    def can_renew(self) -> bool:
        return self.can_edit and self._state != State.EXPIRED

    @property
    def can_end_jwts(self) -> bool:
        return self.token.kind == Kind.CLIENT_CREDENTIALS and self._may("delete")

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
    def new_secret_url(self) -> str:
        return self._url("token-new-secret")


@dataclass(frozen=True)
class EventRow:
    event: AuditEvent
    actor: str

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
        return described.get("name") or described.get("token_id") or ""

    @property
    def detail(self) -> str:
        if self.refused:
            return self.event.reason.replace("_", " ")
        if self.event.verb == "apitoken.edited":
            before, after = self.event.before or {}, self.event.after or {}
            return ", ".join(sorted(name for name in after if after[name] != before.get(name)))
        return self.event.ip or ""


def event_rows(events: Iterable[AuditEvent]) -> list[EventRow]:
    """The events with the names behind their actors, in one more query."""
    events = list(events)
    people = Person.objects.filter(id__in={event.actor_id for event in events if event.actor_id})
    names: dict[UUID | None, str] = dict(people.values_list("id", "label"))
    words = {ActorKind.SYSTEM: _("System"), ActorKind.TOKEN: _("A token"), ActorKind.USER: _("A former member")}
    return [EventRow(event, names.get(event.actor_id) or words[ActorKind(event.actor_kind)]) for event in events]
