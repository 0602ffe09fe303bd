import django.db.models.deletion
import django.db.models.functions.comparison
import django.utils.timezone
import uuid_utils.compat
from django.conf import settings
from django.db import migrations, models

import tenants.constraints


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("accounts", "__first__"),
        ("tenants", "0002_slugs_claimed_for_ever"),
    ]

    operations = [
        migrations.CreateModel(
            name="RefusalCount",
            fields=[
                ("bucket", models.PositiveIntegerField(primary_key=True, serialize=False)),
                ("began_at", models.DateTimeField()),
                ("count", models.PositiveIntegerField()),
            ],
        ),
        migrations.CreateModel(
            name="StatusCounter",
            fields=[
                (
                    "environment",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="status_counter",
                        serialize=False,
                        to="tenants.environment",
                    ),
                ),
                ("next_index", models.PositiveIntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name="IssueNonce",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("actor_id", models.UUIDField()),
                ("digest", models.BinaryField(max_length=32)),
                ("token_id", models.UUIDField(null=True)),
                ("created_at", models.DateTimeField(db_index=True, default=django.utils.timezone.now)),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("actor_id", "digest"), name="issuenonce_used_once")],
            },
        ),
        migrations.CreateModel(
            name="RevokedJWT",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("jti", models.CharField(max_length=64)),
                ("expires_at", models.DateTimeField(db_index=True)),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="revoked_jwts",
                        to="tenants.environment",
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("environment", "jti"), name="revokedjwt_once")],
            },
        ),
        migrations.CreateModel(
            name="SigningKey",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("kid", models.CharField(max_length=43, unique=True)),
                (
                    "algorithm",
                    models.CharField(
                        choices=[("ES256", "Es256"), ("RS256", "Rs256"), ("EdDSA", "Eddsa")], max_length=5
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("published", "Published"),
                            ("active", "Active"),
                            ("retiring", "Retiring"),
                            ("retired", "Retired"),
                            ("compromised", "Compromised"),
                        ],
                        max_length=11,
                    ),
                ),
                ("public_jwk", models.JSONField()),
                ("private_key_encrypted", models.BinaryField()),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("active_from", models.DateTimeField(null=True)),
                ("retiring_from", models.DateTimeField(null=True)),
                ("ended_at", models.DateTimeField(null=True)),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="signing_keys",
                        to="tenants.environment",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("state", "active")),
                        fields=("environment",),
                        name="signingkey_one_active_per_environment",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("state__in", ["published", "active", "retiring", "retired", "compromised"])
                        ),
                        name="signingkey_state_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("algorithm__in", ["ES256", "RS256", "EdDSA"])),
                        name="signingkey_algorithm_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("state__in", ["active", "retiring"]), _negated=True),
                            ("active_from__isnull", False),
                            _connector="OR",
                        ),
                        name="signingkey_active_since",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("state", "retiring"), _negated=True),
                            ("retiring_from__isnull", False),
                            _connector="OR",
                        ),
                        name="signingkey_retiring_since",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("ended_at__isnull", False), ("state__in", ["retired", "compromised"])),
                            models.Q(("ended_at__isnull", True), ("state__in", ["published", "active", "retiring"])),
                            _connector="OR",
                        ),
                        name="signingkey_ended_since",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="StatusSlot",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("index", models.PositiveIntegerField()),
                ("token_id", models.UUIDField()),
                ("tenant_id", models.UUIDField(null=True)),
                ("generation", models.PositiveIntegerField()),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="status_slots",
                        to="tenants.environment",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("environment", "index"), name="statusslot_index_never_reused"),
                    models.UniqueConstraint(
                        django.db.models.functions.comparison.Coalesce(models.F("tenant_id"), models.F("token_id")),
                        models.F("token_id"),
                        models.F("generation"),
                        name="statusslot_once",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="TokenType",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "owner",
                    models.CharField(
                        choices=[("environment", "Environment"), ("tenant", "Tenant"), ("user", "User")], max_length=11
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("client_credentials", "Client Credentials"), ("access_token", "Access Token")],
                        max_length=18,
                    ),
                ),
                ("is_enabled", models.BooleanField(default=True)),
                ("generation", models.PositiveIntegerField(default=0)),
                ("carries_all_roles", models.BooleanField(default=True)),
                ("default_lifetime", models.PositiveIntegerField(blank=True, null=True)),
                ("longest_lifetime", models.PositiveIntegerField(blank=True, null=True)),
                ("may_never_expire", models.BooleanField(default=True)),
                ("jwt_lifetime", models.PositiveIntegerField(default=3600)),
                ("longest_overlap", models.PositiveIntegerField(default=2592000)),
                ("requires_ip_allowlist", models.BooleanField(default=False)),
                ("quota", models.PositiveIntegerField(blank=True, null=True)),
                ("accepts_basic", models.BooleanField(default=False)),
                ("may_make_tokens", models.BooleanField(default=False)),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="token_types",
                        to="tenants.environment",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("environment", "owner", "kind"), name="tokentype_one_per_cell"),
                    models.UniqueConstraint(
                        fields=("id", "environment", "owner", "kind"), name="tokentype_agreement_key"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("owner__in", ["environment", "tenant", "user"])),
                        name="tokentype_owner_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("kind__in", ["client_credentials", "access_token"])),
                        name="tokentype_kind_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("jwt_lifetime__gte", 60), ("jwt_lifetime__lte", 2592000)),
                        name="tokentype_jwt_lifetime_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("longest_overlap__gte", 0), ("longest_overlap__lte", 2592000)),
                        name="tokentype_overlap_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("default_lifetime__isnull", False), ("may_never_expire", True), _connector="OR"
                        ),
                        name="tokentype_default_never_is_allowed",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("longest_lifetime__isnull", True),
                            ("default_lifetime__isnull", True),
                            ("default_lifetime__lte", models.F("longest_lifetime")),
                            _connector="OR",
                        ),
                        name="tokentype_default_within_longest",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="ApiToken",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "owner",
                    models.CharField(
                        choices=[("environment", "Environment"), ("tenant", "Tenant"), ("user", "User")], max_length=11
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("client_credentials", "Client Credentials"), ("access_token", "Access Token")],
                        max_length=18,
                    ),
                ),
                ("token_id", models.CharField(max_length=12, unique=True)),
                ("client_id", models.CharField(max_length=255, unique=True)),
                ("name", models.CharField(max_length=100)),
                ("name_key", models.CharField(editable=False, max_length=300)),
                ("description", models.CharField(blank=True, max_length=1000)),
                (
                    "granted_through",
                    models.CharField(
                        choices=[("roles", "Roles"), ("permissions", "Permissions"), ("owner", "Owner")], max_length=11
                    ),
                ),
                ("granted", models.JSONField(default=list)),
                ("grantor_level", models.PositiveSmallIntegerField(blank=True, null=True)),
                ("ip_allowlist", models.JSONField(blank=True, default=list)),
                ("audiences", models.JSONField(blank=True, default=list)),
                ("generation", models.PositiveIntegerField(default=0)),
                ("disabled_at", models.DateTimeField(blank=True, null=True)),
                ("not_before", models.DateTimeField(blank=True, null=True)),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                ("last_used_at", models.DateTimeField(editable=False, null=True)),
                ("last_used_ip", models.GenericIPAddressField(editable=False, null=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "creator",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="api_tokens", to="tenants.environment"
                    ),
                ),
                (
                    "membership",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="api_tokens",
                        to="tenants.membership",
                    ),
                ),
                (
                    "parent",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="children",
                        to="apitokens.apitoken",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="api_tokens",
                        to="tenants.tenant",
                    ),
                ),
                (
                    "vendor",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.vendor",
                    ),
                ),
                (
                    "vendor_membership",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="api_tokens",
                        to="tenants.vendormembership",
                    ),
                ),
                (
                    "token_type",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="api_tokens", to="apitokens.tokentype"
                    ),
                ),
                (
                    "scope_id",
                    models.GeneratedField(
                        db_persist=True,
                        expression=django.db.models.functions.comparison.Coalesce(
                            models.F("tenant"), models.F("environment")
                        ),
                        output_field=models.UUIDField(),
                    ),
                ),
                (
                    "owner_id",
                    models.GeneratedField(
                        db_persist=True,
                        expression=django.db.models.functions.comparison.Coalesce(
                            models.F("membership"),
                            models.F("vendor_membership"),
                            models.F("tenant"),
                            models.F("environment"),
                        ),
                        output_field=models.UUIDField(),
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["tenant", "-created_at", "-id"], name="apitoken_list_of_tenant"),
                    models.Index(fields=["environment", "-created_at", "-id"], name="apitoken_list_of_environment"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("owner_id", "environment", "name_key"), name="apitoken_name_unique_per_owner"
                    ),
                    models.UniqueConstraint(
                        fields=("id", "scope_id", "environment", "kind"), name="apitoken_agreement_key"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("owner__in", ["environment", "tenant", "user"])),
                        name="apitoken_owner_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("kind__in", ["client_credentials", "access_token"])),
                        name="apitoken_kind_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("name", ""), _negated=True), models.Q(("name_key", ""), _negated=True)
                        ),
                        name="apitoken_has_name",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("membership__isnull", True),
                                ("owner", "environment"),
                                ("tenant__isnull", True),
                                ("vendor__isnull", True),
                                ("vendor_membership__isnull", True),
                            ),
                            models.Q(
                                ("membership__isnull", True),
                                ("owner", "tenant"),
                                ("tenant__isnull", False),
                                ("vendor__isnull", True),
                                ("vendor_membership__isnull", True),
                            ),
                            models.Q(
                                ("membership__isnull", False),
                                ("owner", "user"),
                                ("tenant__isnull", False),
                                ("vendor__isnull", True),
                                ("vendor_membership__isnull", True),
                            ),
                            models.Q(
                                ("membership__isnull", True),
                                ("owner", "user"),
                                ("tenant__isnull", True),
                                ("vendor__isnull", False),
                                ("vendor_membership__isnull", False),
                            ),
                            _connector="OR",
                        ),
                        name="apitoken_owner_agrees_with_columns",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("granted_through__in", ["roles", "permissions"]),
                            models.Q(("granted", []), ("granted_through", "owner"), ("owner", "user")),
                            _connector="OR",
                        ),
                        name="apitoken_only_personal_follow_owner",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("expires_at__isnull", True), ("expires_at__gt", models.F("created_at")), _connector="OR"
                        ),
                        name="apitoken_expires_after_creation",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("not_before__isnull", True),
                            ("expires_at__isnull", True),
                            ("expires_at__gt", models.F("not_before")),
                            _connector="OR",
                        ),
                        name="apitoken_expires_after_it_begins",
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("tenant", "environment"),
                        name="apitoken_tenant_of_environment",
                        to_fields=("id", "environment"),
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("token_type", "environment", "owner", "kind"),
                        name="apitoken_type_is_its_cell",
                        to_fields=("id", "environment", "owner", "kind"),
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("membership", "tenant"),
                        name="apitoken_membership_of_tenant",
                        to_fields=("id", "tenant"),
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("environment", "vendor"),
                        name="apitoken_environment_of_vendor",
                        to_fields=("id", "vendor"),
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("vendor_membership", "vendor"),
                        name="apitoken_vendor_membership_of_vendor",
                        to_fields=("id", "vendor"),
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="ApiTokenRole",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[("client_credentials", "Client Credentials"), ("access_token", "Access Token")],
                        max_length=18,
                    ),
                ),
                ("scope_id", models.UUIDField()),
                ("role_scope_id", models.UUIDField()),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.environment"
                    ),
                ),
                (
                    "role",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="token_roles", to="tenants.role"
                    ),
                ),
                (
                    "token",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="token_roles", to="apitokens.apitoken"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("token", "role"), name="apitokenrole_once"),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("role_scope_id", models.F("scope_id")),
                            ("role_scope_id", models.F("environment")),
                            _connector="OR",
                        ),
                        name="apitokenrole_role_available_to_token",
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("token", "scope_id", "environment", "kind"),
                        name="apitokenrole_token_scope",
                        to_fields=("id", "scope_id", "environment", "kind"),
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("role", "role_scope_id"), name="apitokenrole_role_scope", to_fields=("id", "scope_id")
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Secret",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("scope_id", models.UUIDField()),
                (
                    "kind",
                    models.CharField(
                        choices=[("client_credentials", "Client Credentials"), ("access_token", "Access Token")],
                        max_length=18,
                    ),
                ),
                ("slot", models.PositiveSmallIntegerField(null=True)),
                ("digest", models.BinaryField(max_length=32, null=True)),
                ("pepper_id", models.PositiveSmallIntegerField(null=True)),
                ("last_four", models.CharField(blank=True, max_length=4)),
                ("public_key", models.JSONField(null=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("expires_at", models.DateTimeField(null=True)),
                ("retired_at", models.DateTimeField(null=True)),
                ("last_used_at", models.DateTimeField(editable=False, null=True)),
                ("last_used_ip", models.GenericIPAddressField(editable=False, null=True)),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.environment"
                    ),
                ),
                (
                    "shown_to",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "token",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="secrets", to="apitokens.apitoken"
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["environment", "last_four"], name="secret_found_by_last_four")],
                "constraints": [
                    models.UniqueConstraint(fields=("token", "slot"), name="secret_at_most_two_live"),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("retired_at__isnull", True), ("slot__in", [1, 2]), ("slot__isnull", False)),
                            models.Q(("retired_at__isnull", False), ("slot__isnull", True)),
                            _connector="OR",
                        ),
                        name="secret_slot_until_retired",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("digest__isnull", False), ("pepper_id__isnull", False), ("public_key__isnull", True)
                            ),
                            models.Q(
                                ("digest__isnull", True),
                                ("kind", "client_credentials"),
                                ("pepper_id__isnull", True),
                                ("public_key__isnull", False),
                            ),
                            _connector="OR",
                        ),
                        name="secret_is_digest_or_public_key",
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("token", "scope_id", "environment", "kind"),
                        name="secret_agrees_with_token",
                        to_fields=("id", "scope_id", "environment", "kind"),
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="TokenTypeRole",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "owner",
                    models.CharField(
                        choices=[("environment", "Environment"), ("tenant", "Tenant"), ("user", "User")], max_length=11
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("client_credentials", "Client Credentials"), ("access_token", "Access Token")],
                        max_length=18,
                    ),
                ),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.environment"
                    ),
                ),
                (
                    "role",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="token_type_roles", to="tenants.role"
                    ),
                ),
                (
                    "token_type",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="token_type_roles",
                        to="apitokens.tokentype",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("token_type", "role"), name="tokentyperole_once"),
                    tenants.constraints.CompositeForeignKey(
                        fields=("token_type", "environment", "owner", "kind"),
                        name="tokentyperole_type_of_environment",
                        to_fields=("id", "environment", "owner", "kind"),
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("role", "environment"),
                        name="tokentyperole_role_of_environment",
                        to_fields=("id", "environment"),
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="UsageHour",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("scope_id", models.UUIDField()),
                ("token_id", models.UUIDField()),
                ("hour", models.DateTimeField()),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("granted", "Granted"),
                            ("accepted", "Accepted"),
                            ("introspected", "Introspected"),
                            ("unusable", "Unusable"),
                            ("rejected", "Rejected"),
                            ("wrong_secret", "Wrong Secret"),
                            ("retired_secret", "Retired Secret"),
                        ],
                        max_length=14,
                    ),
                ),
                ("count", models.PositiveBigIntegerField()),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="usage_hours",
                        to="tenants.environment",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["environment", "hour"], name="usagehour_of_environment"),
                    models.Index(fields=["scope_id", "hour"], name="usagehour_of_scope"),
                    models.Index(fields=["hour"], name="usagehour_to_erase"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("token_id", "scope_id", "hour", "outcome"), name="usagehour_once"),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "outcome__in",
                                [
                                    "granted",
                                    "accepted",
                                    "introspected",
                                    "unusable",
                                    "rejected",
                                    "wrong_secret",
                                    "retired_secret",
                                ],
                            )
                        ),
                        name="usagehour_outcome_known",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="UsedAssertion",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("jti_digest", models.BinaryField(max_length=32)),
                ("expires_at", models.DateTimeField(db_index=True)),
                (
                    "token",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="used_assertions",
                        to="apitokens.apitoken",
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("token", "jti_digest"), name="usedassertion_once")],
            },
        ),
        migrations.AddField(
            model_name="apitoken",
            name="roles",
            field=models.ManyToManyField(
                related_name="api_tokens", through="apitokens.ApiTokenRole", to="tenants.role"
            ),
        ),
        migrations.AddField(
            model_name="tokentype",
            name="roles",
            field=models.ManyToManyField(
                related_name="token_types", through="apitokens.TokenTypeRole", to="tenants.role"
            ),
        ),
        migrations.CreateModel(
            name="PortalSession",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("digest", models.BinaryField(max_length=32)),
                ("generation", models.PositiveIntegerField()),
                ("sections", models.JSONField()),
                ("return_url", models.CharField(blank=True, max_length=2000)),
                ("locale", models.CharField(blank=True, max_length=35)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("link_expires_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField(db_index=True)),
                ("opened_at", models.DateTimeField(null=True)),
                ("last_seen_at", models.DateTimeField(null=True)),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="portal_sessions",
                        to="tenants.environment",
                    ),
                ),
                (
                    "membership",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="portal_sessions",
                        to="tenants.membership",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="portal_sessions",
                        to="tenants.tenant",
                    ),
                ),
                (
                    "token",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="portal_sessions",
                        to="apitokens.apitoken",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["environment", "-created_at", "-id"], name="portalsession_of_environment")
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("digest",), name="portalsession_link_unique"),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("last_seen_at__isnull", True), ("opened_at__isnull", True)),
                            models.Q(("last_seen_at__isnull", False), ("opened_at__isnull", False)),
                            _connector="OR",
                        ),
                        name="portalsession_seen_once_opened",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("ends_at__gte", models.F("link_expires_at")),
                            ("link_expires_at__gt", models.F("created_at")),
                        ),
                        name="portalsession_ends_after_its_link",
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("membership", "tenant"),
                        name="portalsession_membership_of_tenant",
                        to_fields=("id", "tenant"),
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("tenant", "environment"),
                        name="portalsession_tenant_of_environment",
                        to_fields=("id", "environment"),
                    ),
                ],
            },
        ),
    ]
