from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from django.utils import timezone

from audit.actors import Actor
from audit.models import AuditEvent, Outcome, Person

Detail = Mapping[str, object]


class Refusal(Exception):
    """A rule said no. `code` is the machine's word for the reason; the text is for people and names the way out."""

    code = "refused"
    # A mistake in what was typed is answered, not recorded.
    is_denial = True
    # The field at fault, under the name that bodies and forms use; empty when none is.
    field = ""


def record(
    *,
    actor: Actor,
    verb: str,
    target_kind: str,
    target_id: UUID | None,
    environment_id: UUID | None,
    tenant_id: UUID | None,
    before: Detail | None = None,
    after: Detail | None = None,
    refused_because: str = "",
) -> AuditEvent:
    """Append one event (R10). Call it inside the transaction that makes the change, so that neither exists alone."""
    if actor.id and actor.label:
        remember(actor.id, actor.label)
    return AuditEvent.objects.create(
        at=timezone.now(),
        environment_id=environment_id,
        tenant_id=tenant_id,
        actor_kind=actor.kind,
        actor_id=actor.id,
        on_behalf_of=actor.on_behalf_of,
        verb=verb,
        outcome=Outcome.REFUSED if refused_because else Outcome.DONE,
        reason=refused_because,
        target_kind=target_kind,
        target_id=target_id,
        before=before,
        after=after,
        ip=actor.ip,
        request_id=actor.request_id,
    )


@dataclass(frozen=True, kw_only=True)
class Change:
    """What happened to one of many."""

    target_id: UUID
    tenant_id: UUID | None
    before: Detail | None = None
    after: Detail | None = None


def record_each(
    *, actor: Actor, verb: str, target_kind: str, environment_id: UUID | None, changes: Iterable[Change]
) -> None:
    """An event for each of many changes of one kind, in as few statements as `record` takes for one."""
    if actor.id and actor.label:
        remember(actor.id, actor.label)
    at = timezone.now()
    events = [
        AuditEvent(
            at=at,
            environment_id=environment_id,
            tenant_id=change.tenant_id,
            actor_kind=actor.kind,
            actor_id=actor.id,
            on_behalf_of=actor.on_behalf_of,
            verb=verb,
            target_kind=target_kind,
            target_id=change.target_id,
            before=change.before,
            after=change.after,
            ip=actor.ip,
            request_id=actor.request_id,
        )
        for change in changes
    ]
    AuditEvent.objects.bulk_create(events, batch_size=500)


def remember(person_id: UUID, label: str) -> None:
    """Keep the name behind an id that events name, beside the record, as it is now."""
    person = Person(id=person_id, label=label[:254])
    Person.objects.bulk_create([person], update_conflicts=True, unique_fields=["id"], update_fields=["label"])


def forget(ids: Iterable[UUID]) -> None:
    """Erase the names behind these ids; the record, which has none, stays as it is."""
    Person.objects.filter(id__in=ids).delete()


@contextmanager
def refusals_recorded(
    *,
    actor: Actor,
    verb: str,
    target_kind: str,
    target_id: UUID | None,
    environment_id: UUID | None,
    tenant_id: UUID | None,
    asked: Detail | None = None,
) -> Iterator[None]:
    """Record a refusal raised inside as an event of the actor, after the refused transaction is rolled back (R10).

    Wrap it around the `atomic` block, never inside one: inside, the event would be rolled back with the rest.
    """
    try:
        yield
    except Refusal as refusal:
        if refusal.is_denial:
            record(
                actor=actor,
                verb=verb,
                target_kind=target_kind,
                target_id=target_id,
                environment_id=environment_id,
                tenant_id=tenant_id,
                after=asked,
                refused_because=refusal.code,
            )
        raise
