"""The append-only record of what was done, by whom, to what.

It knows ids, not models, so that it outlives what it describes. No secret and no person's name is in an event: names
live in `Person`, by id, where an erasure can reach them without touching the record.
"""

from django.db import models
from uuid_utils.compat import uuid7


class ActorKind(models.TextChoices):
    USER = "user"
    TOKEN = "token"  # noqa: S105 -- the name of a kind
    SYSTEM = "system"


class Outcome(models.TextChoices):
    DONE = "done"
    REFUSED = "refused"


class AuditEvent(models.Model):
    """One change, or one refusal. A trigger on both databases refuses to alter or remove a row."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    at = models.DateTimeField()
    environment_id = models.UUIDField(null=True)
    tenant_id = models.UUIDField(null=True)
    actor_kind = models.CharField(max_length=6, choices=ActorKind)
    actor_id = models.UUIDField(null=True)
    on_behalf_of = models.UUIDField(null=True)
    verb = models.CharField(max_length=64)
    outcome = models.CharField(max_length=7, choices=Outcome, default=Outcome.DONE)
    reason = models.CharField(max_length=64, blank=True)
    target_kind = models.CharField(max_length=32)
    target_id = models.UUIDField(null=True)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    ip = models.GenericIPAddressField(null=True)
    request_id = models.CharField(max_length=36, blank=True)

    class Meta:
        indexes = [
            # Time first and id last: with `id` alone PostgreSQL would walk the primary key across every tenant.
            models.Index(fields=["tenant_id", "-at", "-id"], name="auditevent_by_tenant"),
            models.Index(fields=["environment_id", "-at", "-id"], name="auditevent_by_environment"),
            models.Index(fields=["target_id", "-at", "-id"], name="auditevent_by_target"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(actor_kind=ActorKind.SYSTEM) ^ models.Q(actor_id__isnull=False),
                name="auditevent_actor_has_id_unless_system",
            ),
            models.CheckConstraint(
                condition=models.Q(actor_kind__in=ActorKind.values), name="auditevent_actor_kind_known"
            ),
            models.CheckConstraint(condition=models.Q(outcome__in=Outcome.values), name="auditevent_outcome_known"),
            models.CheckConstraint(
                condition=models.Q(outcome=Outcome.DONE, reason="")
                | models.Q(models.Q(outcome=Outcome.REFUSED), ~models.Q(reason="")),
                name="auditevent_refusal_has_reason",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.verb} {self.target_kind} {self.target_id}"


class Person(models.Model):
    """The name behind an actor's id, a person's or a token's, as it was last seen: no name is in the record itself."""

    id = models.UUIDField(primary_key=True)
    label = models.CharField(max_length=254)

    def __str__(self) -> str:
        return f"person {self.id}"
