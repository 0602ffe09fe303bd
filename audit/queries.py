"""Reading the record: which events are sought, and the names behind their actors."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Q, QuerySet

from audit.models import AuditEvent, Outcome, Person

# The last event of a token, with its tombstone, and the first of an invitation, with what it offers.
DESCRIBING = ("apitoken.deleted", "invitation.sent", "vendor_invitation.sent")


@dataclass(frozen=True, kw_only=True)
class Sought:
    """What is empty or None asks nothing. `verb` is a whole verb, or the noun before its dot; `until` is exclusive."""

    verb: str = ""
    actor_kind: str = ""
    actor_id: UUID | None = None
    target_id: UUID | None = None
    outcome: str = ""
    since: datetime | None = None
    until: datetime | None = None


def events_of(*, environment_id: UUID, tenant_id: UUID | None, sought: Sought) -> QuerySet[AuditEvent]:
    """The record of one tenant, or with None that of the whole environment; in no order yet."""
    found = AuditEvent.objects.filter(environment_id=environment_id)
    if tenant_id is not None:
        found = found.filter(tenant_id=tenant_id)
    asked = {
        "actor_kind": sought.actor_kind or None,
        "actor_id": sought.actor_id,
        "target_id": sought.target_id,
        "outcome": sought.outcome or None,
        "at__gte": sought.since,
        "at__lt": sought.until,
    }
    found = found.filter(**{name: value for name, value in asked.items() if value is not None})
    if sought.verb:
        found = found.filter(Q(verb=sought.verb) | Q(verb__startswith=f"{sought.verb}."))
    return found


def names_of(events: Iterable[AuditEvent], *, others: Iterable[UUID | None] = ()) -> dict[UUID | None, str]:
    """The names behind the events' actors, and `others`, by id, in one query. Whoever was erased has none."""
    ids = {each for each in (*(event.actor_id for event in events), *others) if each}
    return dict(Person.objects.filter(id__in=ids).values_list("id", "label")) if ids else {}


def traces_of(ids: Iterable[UUID | None]) -> dict[UUID | None, AuditEvent]:
    """What the record keeps of things that are not there to be asked: the event that describes each, in one query."""
    described = AuditEvent.objects.filter(target_id__in=ids, verb__in=DESCRIBING, outcome=Outcome.DONE)
    return {event.target_id: event for event in described}
