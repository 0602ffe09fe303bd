"""What events are about, in words: found for a whole page of them at once, one query a kind of thing, if any."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db.models import Model, Q
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apitokens.models import ApiToken, Kind, Owner
from apitokens.pages.member_rows import ROLE_NAMES
from apitokens.pages.words import KINDS, OWNERS
from audit.models import AuditEvent
from audit.queries import names_of, traces_of
from audit.words import listed
from tenants.models import Environment, Membership, Permission, Role, Tenant, VendorMembership

# What has a name of its own, and where it is; the vendor's environment is a wall for all of them.
NAMED: Mapping[str, tuple[type[Model], str, str]] = {
    "apitoken": (ApiToken, "name", "environment_id"),
    "tenant": (Tenant, "name", "environment_id"),
    "role": (Role, "name", "environment_id"),
    "permission": (Permission, "key", "environment_id"),
    "environment": (Environment, "name", "id"),
}
MEMBERS: Mapping[str, type[Membership] | type[VendorMembership]] = {
    "membership": Membership,
    "vendor_membership": VendorMembership,
}


def described(event: AuditEvent) -> dict[str, Any]:
    return {**(event.before or {}), **(event.after or {})}


@dataclass(frozen=True)
class Known:
    """The names behind the ids and keys of some events; what is gone for good has none."""

    people: Mapping[UUID | None, str]
    things: Mapping[UUID | None, str] = field(default_factory=dict)
    members: Mapping[UUID | None, Membership | VendorMembership] = field(default_factory=dict)
    # What an earlier event kept of things that are gone, or were not described again.
    traces: Mapping[UUID | None, AuditEvent] = field(default_factory=dict)
    role_names: Mapping[tuple[UUID | None, UUID | None, str], str] = field(default_factory=dict)

    def target(self, event: AuditEvent) -> str:
        detail = described(event)
        match event.target_kind:
            case "membership" | "vendor_membership" | "portal_session":
                return self._person(event, detail)
            case "token_type":
                return cell(detail)
            case "signing_key":
                return f"{str(detail.get('kid', ''))[:8]}…"
            case "invitation":
                return self._offer(event, detail)
            case "apitoken":
                return self._token(event, detail)
        return detail.get("name") or detail.get("key") or self.things.get(event.target_id, "")

    def roles(self, event: AuditEvent, keys: Iterable[str]) -> list[str]:
        """The tenant's own roles, else the vendor's; a role that is gone by its key."""
        at = event.environment_id
        names = self.role_names
        return [names.get((at, event.tenant_id, key)) or names.get((at, None, key)) or key for key in keys]

    def _token(self, event: AuditEvent, detail: Mapping[str, Any]) -> str:
        trace = self.traces.get(event.target_id)
        proof = (trace.before if trace else None) or detail
        name = detail.get("name") or self.things.get(event.target_id) or proof.get("name") or ""
        if last_four := proof.get("last_four"):
            return f"{name} …{last_four}"
        return f"{name} {proof['kid'][:8]}…" if proof.get("kid") else name

    def _person(self, event: AuditEvent, detail: Mapping[str, Any]) -> str:
        if user := as_uuid(detail.get("user")):
            return self.people.get(user) or _("A former member")
        member = self.members.get(event.target_id)
        return (self.people.get(member.user_id) or str(member.user)) if member else ""

    def _offer(self, event: AuditEvent, detail: Mapping[str, Any]) -> str:
        if trace := self.traces.get(event.target_id):
            detail = {**described(trace), **detail}
        if detail.get("roles"):
            return _("to %(roles)s") % {"roles": in_short(self.roles(event, detail["roles"]))}
        role = detail.get("vendor_role")
        if not role:
            return ""
        words = {"roles": vendor_role(role), "environments": in_short(detail.get("environments") or [])}
        if "environments" not in detail:
            return _("to %(roles)s") % words
        if detail["environments"] is None:
            return _("to %(roles)s in every environment") % words
        return _("to %(roles)s in %(environments)s") % words


def known(events: Sequence[AuditEvent], *, with_tenants: bool = False) -> Known:
    """`with_tenants`: also the names of the tenants in which the events happened, among `things`."""
    missing = {kind: {event.target_id for event in events if _is_unnamed(event, kind)} for kind in NAMED}
    # Also of a token that is named: whether it is gone, and how its secret ended.
    missing["apitoken"] = {event.target_id for event in events if event.target_kind == "apitoken"}
    if with_tenants:
        missing["tenant"] |= {event.tenant_id for event in events}
    environments = {event.environment_id for event in events}
    things: dict[UUID | None, str] = {}
    for kind, (model, name, environment) in NAMED.items():
        rows = model._default_manager.filter(**{"pk__in": missing[kind] - {None}, f"{environment}__in": environments})
        things.update(rows.values_list("pk", name))
    members: dict[UUID | None, Membership | VendorMembership] = {}
    for kind, of_people in MEMBERS.items():
        ids = {event.target_id for event in events if event.target_kind == kind and not described(event).get("user")}
        rows = of_people._default_manager.filter(pk__in=ids - {None}).select_related("user")
        members.update((row.pk, row) for row in rows)
    traces = traces_of(_without_words(events) | (missing["apitoken"] - things.keys() - {None}))
    subjects = {as_uuid(described(event).get("user")) for event in events} | {row.user_id for row in members.values()}
    return Known(
        people=names_of(events, others=subjects),
        things=things,
        members=members,
        traces=traces,
        role_names=_role_names([*events, *traces.values()]),
    )


def _is_unnamed(event: AuditEvent, kind: str) -> bool:
    detail = described(event)
    return event.target_kind == kind and not (detail.get("name") or detail.get("key"))


def _without_words(events: Iterable[AuditEvent]) -> set[UUID | None]:
    """The invitations of which an event does not say what they offered."""
    silent = {
        event.target_id
        for event in events
        if event.target_kind == "invitation" and not {"roles", "vendor_role"} & described(event).keys()
    }
    return silent - {None}


def _role_names(events: Sequence[AuditEvent]) -> dict[tuple[UUID | None, UUID | None, str], str]:
    named = {
        str(key)
        for event in events
        for detail in (event.before or {}, event.after or {})
        for key in [*_list(detail.get("roles")), detail.get("default_role"), detail.get("replacement")]
        if key
    }
    ids = {as_uuid(key) for key in named} - {None}
    rows = Role.objects.filter(
        Q(key__in=named) | Q(pk__in=ids), environment__in={event.environment_id for event in events}
    ).values_list("environment_id", "tenant_id", "key", "pk", "name")
    names: dict[tuple[UUID | None, UUID | None, str], str] = {}
    for environment_id, tenant_id, key, pk, name in rows if named else ():
        names[environment_id, tenant_id, key] = names[environment_id, tenant_id, str(pk)] = name
    return names


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def as_uuid(value: Any) -> UUID | None:
    try:
        return UUID(str(value))
    except ValueError:
        return None


def cell(detail: Mapping[str, Any]) -> str:
    """The owner and kind of a token type: "A tenant: Client credentials"."""
    try:
        owner, kind = OWNERS[Owner(detail["owner"])], KINDS[Kind(detail["kind"])]
    except (KeyError, ValueError):
        return ""
    return _("%(owner)s: %(kind)s") % {"owner": owner, "kind": kind}


def vendor_role(role: str) -> str:
    return str(ROLE_NAMES[VendorMembership.Role(role)]) if role in VendorMembership.Role.values else role


def in_short(words: Sequence[str], most: int = 6) -> str:
    """The first few, and how many more there are."""
    shown = listed(word[:80] for word in words[:most])
    if (more := len(words) - most) <= 0:
        return shown
    return ngettext("%(words)s and %(count)s more", "%(words)s and %(count)s more", more) % {
        "words": shown,
        "count": more,
    }
