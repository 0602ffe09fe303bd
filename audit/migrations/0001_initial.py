import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Person",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("label", models.CharField(max_length=254)),
            ],
        ),
        migrations.CreateModel(
            name="AuditEvent",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("at", models.DateTimeField()),
                ("environment_id", models.UUIDField(null=True)),
                ("tenant_id", models.UUIDField(null=True)),
                (
                    "actor_kind",
                    models.CharField(
                        choices=[("user", "User"), ("token", "Token"), ("system", "System")], max_length=6
                    ),
                ),
                ("actor_id", models.UUIDField(null=True)),
                ("on_behalf_of", models.UUIDField(null=True)),
                ("verb", models.CharField(max_length=64)),
                (
                    "outcome",
                    models.CharField(choices=[("done", "Done"), ("refused", "Refused")], default="done", max_length=7),
                ),
                ("reason", models.CharField(blank=True, max_length=64)),
                ("target_kind", models.CharField(max_length=32)),
                ("target_id", models.UUIDField(null=True)),
                ("before", models.JSONField(null=True)),
                ("after", models.JSONField(null=True)),
                ("ip", models.GenericIPAddressField(null=True)),
                ("request_id", models.CharField(blank=True, max_length=36)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["tenant_id", "-at", "-id"], name="auditevent_by_tenant"),
                    models.Index(fields=["environment_id", "-at", "-id"], name="auditevent_by_environment"),
                    models.Index(fields=["target_id", "-at", "-id"], name="auditevent_by_target"),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("actor_kind", "system"), ("actor_id__isnull", False), _connector="XOR"),
                        name="auditevent_actor_has_id_unless_system",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("actor_kind__in", ["user", "token", "system"])),
                        name="auditevent_actor_kind_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("outcome__in", ["done", "refused"])), name="auditevent_outcome_known"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("outcome", "done"), ("reason", "")),
                            models.Q(models.Q(("outcome", "refused")), models.Q(("reason", ""), _negated=True)),
                            _connector="OR",
                        ),
                        name="auditevent_refusal_has_reason",
                    ),
                ],
            },
        ),
    ]
