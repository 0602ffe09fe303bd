import django.db.models.functions.text
import django.utils.timezone
import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
    ]

    operations = [
        migrations.CreateModel(
            name="CacheEntry",
            fields=[
                ("cache_key", models.CharField(max_length=255, primary_key=True, serialize=False)),
                ("value", models.TextField()),
                ("expires", models.DateTimeField(db_index=True)),
            ],
            options={
                "db_table": "cache",
            },
        ),
        migrations.CreateModel(
            name="User",
            fields=[
                ("password", models.CharField(max_length=128, verbose_name="password")),
                ("last_login", models.DateTimeField(blank=True, null=True, verbose_name="last login")),
                (
                    "is_superuser",
                    models.BooleanField(
                        default=False,
                        help_text="Designates that this user has all permissions without explicitly assigning them.",
                        verbose_name="superuser status",
                    ),
                ),
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("email", models.EmailField(blank=True, max_length=254, null=True)),
                ("name", models.CharField(blank=True, max_length=150)),
                ("is_active", models.BooleanField(default=True)),
                ("is_staff", models.BooleanField(default=False)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("voucher_id", models.UUIDField(blank=True, editable=False, null=True)),
                ("voucher_user_id", models.CharField(blank=True, editable=False, max_length=255, null=True)),
                (
                    "groups",
                    models.ManyToManyField(
                        blank=True,
                        help_text="The groups this user belongs to. A user will get all permissions granted to each of their groups.",
                        related_name="user_set",
                        related_query_name="user",
                        to="auth.group",
                        verbose_name="groups",
                    ),
                ),
                (
                    "user_permissions",
                    models.ManyToManyField(
                        blank=True,
                        help_text="Specific permissions for this user.",
                        related_name="user_set",
                        related_query_name="user",
                        to="auth.permission",
                        verbose_name="user permissions",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        django.db.models.functions.text.Lower("email"),
                        condition=models.Q(("voucher_id__isnull", True)),
                        name="user_local_email_unique",
                    ),
                    models.UniqueConstraint(
                        fields=("voucher_id", "voucher_user_id"), name="user_vouched_identity_unique"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("voucher_id__isnull", True), ("voucher_user_id__isnull", True)),
                            models.Q(("voucher_id__isnull", False), ("voucher_user_id__isnull", False)),
                            _connector="OR",
                        ),
                        name="user_voucher_and_its_id_together",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("voucher_id__isnull", False), ("email__isnull", False), _connector="OR"),
                        name="user_local_has_email",
                    ),
                ],
            },
        ),
    ]
