import django.db.models.deletion
import django.db.models.functions.comparison
import django.db.models.functions.text
import django.utils.timezone
import uuid_utils.compat
from django.conf import settings
from django.db import migrations, models

import tenants.constraints


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("accounts", "__first__"),
    ]

    operations = [
        migrations.CreateModel(
            name="TakenSlug",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(choices=[("environment", "Environment"), ("tenant", "Tenant")], max_length=11),
                ),
                ("slug", models.CharField(max_length=63)),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("kind", "slug"), name="takenslug_never_reused")],
            },
        ),
        migrations.CreateModel(
            name="Vendor",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("name", models.CharField(max_length=100)),
                ("slug", models.CharField(max_length=63, unique=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(django.db.models.functions.text.Lower("name"), name="vendor_name_unique"),
                    models.CheckConstraint(
                        condition=models.Q(("slug__regex", "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")),
                        name="vendor_slug_form",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Environment",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("name", models.CharField(max_length=100)),
                ("slug", models.CharField(max_length=63, unique=True)),
                (
                    "colour",
                    models.CharField(
                        choices=[
                            ("grey", "Grey"),
                            ("blue", "Blue"),
                            ("teal", "Teal"),
                            ("green", "Green"),
                            ("amber", "Amber"),
                            ("red", "Red"),
                            ("purple", "Purple"),
                        ],
                        default="blue",
                        max_length=6,
                    ),
                ),
                ("token_prefix", models.CharField(max_length=32, unique=True)),
                (
                    "signing_algorithm",
                    models.CharField(
                        choices=[("ES256", "Es256"), ("RS256", "Rs256"), ("EdDSA", "Eddsa")],
                        default="ES256",
                        max_length=5,
                    ),
                ),
                ("strict_ceiling", models.BooleanField(default=True)),
                ("reauthenticate_after", models.PositiveIntegerField(default=900)),
                ("embedding_origins", models.JSONField(blank=True, default=list)),
                ("generation", models.PositiveIntegerField(default=0)),
                ("suspended_at", models.DateTimeField(blank=True, null=True)),
                ("deleted_at", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "vendor",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="environments", to="tenants.vendor"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        models.F("vendor"),
                        django.db.models.functions.text.Lower("name"),
                        name="environment_name_unique_in_vendor",
                    ),
                    models.UniqueConstraint(fields=("id", "vendor"), name="environment_agreement_key"),
                    models.CheckConstraint(
                        condition=models.Q(("slug__regex", "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")),
                        name="environment_slug_form",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("token_prefix__regex", "^[a-z0-9_]{2,32}$")),
                        name="environment_token_prefix_form",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("signing_algorithm__in", ["ES256", "RS256", "EdDSA"])),
                        name="environment_algorithm_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("colour__in", ["grey", "blue", "teal", "green", "amber", "red", "purple"])),
                        name="environment_colour_known",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Permission",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("key", models.CharField(max_length=128)),
                ("description", models.CharField(blank=True, max_length=255)),
                ("is_built_in", models.BooleanField(default=False)),
                ("for_environment_tokens", models.BooleanField(default=True)),
                ("for_tenant_tokens", models.BooleanField(default=True)),
                ("for_personal_tokens", models.BooleanField(default=True)),
                ("is_safe_in_public", models.BooleanField(default=False)),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="permissions",
                        to="tenants.environment",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("environment", "key"), name="permission_key_unique_in_environment"),
                    models.UniqueConstraint(fields=("id", "environment"), name="permission_agreement_key"),
                    models.CheckConstraint(
                        condition=models.Q(("key__regex", "^[!#-\\[\\]-~]{1,128}$")),
                        name="permission_key_is_scope_token",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Tenant",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("name", models.CharField(max_length=100)),
                ("slug", models.CharField(max_length=63, unique=True)),
                ("external_id", models.CharField(blank=True, max_length=255, null=True)),
                ("generation", models.PositiveIntegerField(default=0)),
                ("suspended_at", models.DateTimeField(blank=True, null=True)),
                ("deleted_at", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="tenants", to="tenants.environment"
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["environment", "-created_at", "-id"], name="tenant_list_of_environment")
                ],
                "constraints": [
                    models.UniqueConstraint(
                        models.F("environment"),
                        django.db.models.functions.text.Lower("name"),
                        name="tenant_name_unique_in_environment",
                    ),
                    models.UniqueConstraint(fields=("environment", "external_id"), name="tenant_external_id_unique"),
                    models.UniqueConstraint(fields=("id", "environment"), name="tenant_agreement_key"),
                    models.CheckConstraint(
                        condition=models.Q(("slug__regex", "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")),
                        name="tenant_slug_form",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("external_id", ""), _negated=True),
                            models.Q(
                                ("external_id__regex", "^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$"),
                                _negated=True,
                            ),
                        ),
                        name="tenant_external_id_not_like_ours",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Membership",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("generation", models.PositiveIntegerField(default=0)),
                ("suspended_at", models.DateTimeField(blank=True, null=True)),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="memberships",
                        to="tenants.environment",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="memberships",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="memberships", to="tenants.tenant"
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["tenant", "-created_at", "-id"], name="membership_list_of_tenant")],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "user"), name="membership_once_per_tenant"),
                    models.UniqueConstraint(fields=("id", "tenant"), name="membership_agreement_key"),
                    tenants.constraints.CompositeForeignKey(
                        fields=("tenant", "environment"),
                        name="membership_tenant_of_environment",
                        to_fields=("id", "environment"),
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Role",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("key", models.CharField(max_length=68)),
                ("name", models.CharField(max_length=100)),
                ("level", models.PositiveSmallIntegerField()),
                ("is_for_new_tenants", models.BooleanField(default=False)),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="roles", to="tenants.environment"
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="own_roles",
                        to="tenants.tenant",
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
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("scope_id", "key"), name="role_key_unique"),
                    models.UniqueConstraint(
                        models.F("scope_id"), django.db.models.functions.text.Lower("name"), name="role_name_unique"
                    ),
                    models.UniqueConstraint(fields=("id", "scope_id"), name="role_scope_agreement_key"),
                    models.UniqueConstraint(fields=("id", "environment"), name="role_environment_agreement_key"),
                    models.CheckConstraint(
                        condition=models.Q(("key__regex", "^(own:)?[a-z0-9][a-z0-9_.-]{0,63}$")), name="role_key_form"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("key__regex", "^[^:]+$"), ("tenant__isnull", True)),
                            models.Q(("key__startswith", "own:"), ("tenant__isnull", False)),
                            _connector="OR",
                        ),
                        name="role_own_key_marked",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("level__gte", 0), ("level__lte", 32767)), name="role_level_range"
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("is_for_new_tenants", True)),
                        fields=("environment",),
                        name="role_one_for_new_tenants",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("is_for_new_tenants", False), ("tenant__isnull", True), _connector="OR"),
                        name="role_for_new_tenants_is_the_vendors",
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("tenant", "environment"),
                        name="role_tenant_of_environment",
                        to_fields=("id", "environment"),
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="MembershipRole",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("role_scope_id", models.UUIDField()),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.environment"
                    ),
                ),
                (
                    "membership",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="membership_roles",
                        to="tenants.membership",
                    ),
                ),
                (
                    "role",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="membership_roles", to="tenants.role"
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.tenant"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("membership", "role"), name="membershiprole_once"),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("role_scope_id", models.F("tenant")),
                            ("role_scope_id", models.F("environment")),
                            _connector="OR",
                        ),
                        name="membershiprole_role_available_in_tenant",
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("membership", "tenant"),
                        name="membershiprole_membership_of_tenant",
                        to_fields=("id", "tenant"),
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("tenant", "environment"),
                        name="membershiprole_tenant_of_environment",
                        to_fields=("id", "environment"),
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("role", "role_scope_id"), name="membershiprole_role_scope", to_fields=("id", "scope_id")
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="RolePermission",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.environment"
                    ),
                ),
                (
                    "permission",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="role_permissions",
                        to="tenants.permission",
                    ),
                ),
                (
                    "role",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="role_permissions", to="tenants.role"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("role", "permission"), name="rolepermission_once"),
                    tenants.constraints.CompositeForeignKey(
                        fields=("role", "environment"),
                        name="rolepermission_role_of_environment",
                        to_fields=("id", "environment"),
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("permission", "environment"),
                        name="rolepermission_permission_of_environment",
                        to_fields=("id", "environment"),
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="VendorMembership",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "role",
                    models.CharField(
                        choices=[("owner", "Owner"), ("admin", "Admin"), ("auditor", "Auditor")], max_length=7
                    ),
                ),
                ("in_all_environments", models.BooleanField(default=True)),
                ("generation", models.PositiveIntegerField(default=0)),
                ("suspended_at", models.DateTimeField(blank=True, null=True)),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="vendor_memberships",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "vendor",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="memberships", to="tenants.vendor"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("vendor", "user"), name="vendormembership_once_per_vendor"),
                    models.UniqueConstraint(fields=("id", "vendor"), name="vendormembership_agreement_key"),
                    models.CheckConstraint(
                        condition=models.Q(("role__in", ["owner", "admin", "auditor"])),
                        name="vendormembership_role_known",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Invitation",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("email", models.EmailField(max_length=254)),
                (
                    "vendor_role",
                    models.CharField(
                        blank=True,
                        choices=[("owner", "Owner"), ("admin", "Admin"), ("auditor", "Auditor")],
                        max_length=7,
                    ),
                ),
                ("in_all_environments", models.BooleanField(default=True)),
                ("digest", models.BinaryField(max_length=32)),
                ("sender_token_id", models.UUIDField(blank=True, null=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("expires_at", models.DateTimeField()),
                ("accepted_at", models.DateTimeField(blank=True, null=True)),
                (
                    "environment",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="invitations",
                        to="tenants.environment",
                    ),
                ),
                (
                    "sender_membership",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="tenants.membership",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="invitations",
                        to="tenants.tenant",
                    ),
                ),
                (
                    "vendor",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="invitations", to="tenants.vendor"
                    ),
                ),
                (
                    "sender_vendor_membership",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="tenants.vendormembership",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["tenant", "-created_at", "-id"], name="invitation_list_of_tenant"),
                    models.Index(fields=["vendor", "-created_at", "-id"], name="invitation_list_of_vendor"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("digest",), name="invitation_digest_unique"),
                    models.UniqueConstraint(fields=("id", "tenant"), name="invitation_agreement_key"),
                    models.UniqueConstraint(fields=("id", "vendor"), name="invitation_vendor_agreement_key"),
                    models.UniqueConstraint(
                        models.F("vendor"),
                        django.db.models.functions.text.Lower("email"),
                        condition=models.Q(("accepted_at__isnull", True), ("tenant__isnull", True)),
                        name="invitation_one_open_per_vendor",
                    ),
                    models.UniqueConstraint(
                        models.F("tenant"),
                        django.db.models.functions.text.Lower("email"),
                        condition=models.Q(("accepted_at__isnull", True), ("tenant__isnull", False)),
                        name="invitation_one_open_per_tenant",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("environment__isnull", False), ("tenant__isnull", False), ("vendor_role", "")),
                            models.Q(
                                ("environment__isnull", True),
                                ("tenant__isnull", True),
                                ("vendor_role__in", ["owner", "admin", "auditor"]),
                            ),
                            _connector="OR",
                        ),
                        name="invitation_to_a_tenant_or_a_vendor",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("expires_at__gt", models.F("created_at"))), name="invitation_expires_later"
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("tenant", "environment"),
                        name="invitation_tenant_of_environment",
                        to_fields=("id", "environment"),
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("environment", "vendor"),
                        name="invitation_environment_of_vendor",
                        to_fields=("id", "vendor"),
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="InvitationEnvironment",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.environment"
                    ),
                ),
                (
                    "invitation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="listed", to="tenants.invitation"
                    ),
                ),
                (
                    "vendor",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.vendor"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("invitation", "environment"), name="invitationenvironment_once"),
                    tenants.constraints.CompositeForeignKey(
                        fields=("invitation", "vendor"),
                        name="invitationenvironment_invitation_of_vendor",
                        to_fields=("id", "vendor"),
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("environment", "vendor"),
                        name="invitationenvironment_environment_of_vendor",
                        to_fields=("id", "vendor"),
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="InvitationRole",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("role_scope_id", models.UUIDField()),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.environment"
                    ),
                ),
                (
                    "invitation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="invitation_roles",
                        to="tenants.invitation",
                    ),
                ),
                (
                    "role",
                    models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.role"),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.tenant"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("invitation", "role"), name="invitationrole_once"),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("role_scope_id", models.F("tenant")),
                            ("role_scope_id", models.F("environment")),
                            _connector="OR",
                        ),
                        name="invitationrole_role_available_in_tenant",
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("invitation", "tenant"),
                        name="invitationrole_invitation_of_tenant",
                        to_fields=("id", "tenant"),
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("tenant", "environment"),
                        name="invitationrole_tenant_of_environment",
                        to_fields=("id", "environment"),
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("role", "role_scope_id"), name="invitationrole_role_scope", to_fields=("id", "scope_id")
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="IdentityProvider",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("issuer", models.CharField(max_length=255)),
                ("voucher_id", models.UUIDField(editable=False, unique=True)),
                ("client_id", models.CharField(max_length=255)),
                ("sealed_secret", models.TextField()),
                ("secret_set_at", models.DateTimeField()),
                ("is_enforced", models.BooleanField(default=False)),
                ("chosen_by_token_id", models.UUIDField(blank=True, null=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "chosen_by_membership",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="tenants.membership",
                    ),
                ),
                (
                    "chosen_by_vendor_membership",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="tenants.vendormembership",
                    ),
                ),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.environment"
                    ),
                ),
                (
                    "tenant",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="identity_provider",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("id", "tenant"), name="identityprovider_agreement_key"),
                    models.CheckConstraint(
                        condition=models.Q(("issuer__regex", "^https?://[^\\s?#]+$")),
                        name="identityprovider_issuer_form",
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("tenant", "environment"),
                        name="identityprovider_tenant_of_environment",
                        to_fields=("id", "environment"),
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="IdentityProviderRole",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("role_scope_id", models.UUIDField()),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.environment"
                    ),
                ),
                (
                    "provider",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="provider_roles",
                        to="tenants.identityprovider",
                    ),
                ),
                (
                    "role",
                    models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.role"),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.tenant"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("provider", "role"), name="identityproviderrole_once"),
                    tenants.constraints.CompositeForeignKey(
                        fields=("provider", "tenant"),
                        name="identityproviderrole_provider_of_tenant",
                        to_fields=("id", "tenant"),
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("tenant", "environment"),
                        name="identityproviderrole_tenant_of_environment",
                        to_fields=("id", "environment"),
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("role", "role_scope_id"),
                        name="identityproviderrole_role_scope",
                        to_fields=("id", "scope_id"),
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("role_scope_id", models.F("tenant")),
                            ("role_scope_id", models.F("environment")),
                            _connector="OR",
                        ),
                        name="identityproviderrole_role_available_in_tenant",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="VendorMembershipEnvironment",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.environment"
                    ),
                ),
                (
                    "vendor",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.vendor"
                    ),
                ),
                (
                    "vendor_membership",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="listed",
                        to="tenants.vendormembership",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("vendor_membership", "environment"), name="vendormembershipenvironment_once"
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("vendor_membership", "vendor"),
                        name="vendormembershipenvironment_membership_of_vendor",
                        to_fields=("id", "vendor"),
                    ),
                    tenants.constraints.CompositeForeignKey(
                        fields=("environment", "vendor"),
                        name="vendormembershipenvironment_environment_of_vendor",
                        to_fields=("id", "vendor"),
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Brand",
            fields=[
                (
                    "environment",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="brand",
                        serialize=False,
                        to="tenants.environment",
                    ),
                ),
                ("name", models.CharField(blank=True, max_length=60)),
                ("accent", models.CharField(blank=True, max_length=7)),
                ("logo", models.BinaryField(blank=True, null=True)),
                ("logo_type", models.CharField(blank=True, max_length=16)),
                ("logo_digest", models.CharField(blank=True, max_length=16)),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("accent", ""), ("accent__regex", "^#[0-9a-f]{6}$"), _connector="OR"),
                        name="brand_accent_form",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("logo__isnull", True), ("logo_digest", ""), ("logo_type", "")),
                            models.Q(
                                models.Q(("logo__isnull", False), ("logo_type__in", ["image/png", "image/webp"])),
                                models.Q(("logo_digest", ""), _negated=True),
                            ),
                            _connector="OR",
                        ),
                        name="brand_logo_with_type",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="ApiIdentifier",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("uri", models.CharField(max_length=255)),
                ("is_default", models.BooleanField(default=False)),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="api_identifiers",
                        to="tenants.environment",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("environment", "uri"), name="apiidentifier_unique_in_environment"),
                    models.UniqueConstraint(
                        condition=models.Q(("is_default", True)),
                        fields=("environment",),
                        name="apiidentifier_one_default",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("uri__regex", "^[a-z][a-z0-9+.-]*:[^\\s#]+$")),
                        name="apiidentifier_absolute_uri",
                    ),
                ],
            },
        ),
        migrations.AddField(
            model_name="invitation",
            name="environments",
            field=models.ManyToManyField(
                related_name="+", through="tenants.InvitationEnvironment", to="tenants.environment"
            ),
        ),
        migrations.AddField(
            model_name="identityprovider",
            name="roles",
            field=models.ManyToManyField(
                related_name="identity_providers", through="tenants.IdentityProviderRole", to="tenants.role"
            ),
        ),
        migrations.AddField(
            model_name="membership",
            name="roles",
            field=models.ManyToManyField(
                related_name="memberships", through="tenants.MembershipRole", to="tenants.role"
            ),
        ),
        migrations.AddField(
            model_name="invitation",
            name="roles",
            field=models.ManyToManyField(
                related_name="invitations", through="tenants.InvitationRole", to="tenants.role"
            ),
        ),
        migrations.AddField(
            model_name="role",
            name="permissions",
            field=models.ManyToManyField(
                related_name="roles", through="tenants.RolePermission", to="tenants.permission"
            ),
        ),
        migrations.AddField(
            model_name="vendormembership",
            name="environments",
            field=models.ManyToManyField(
                related_name="vendor_memberships",
                through="tenants.VendorMembershipEnvironment",
                to="tenants.environment",
            ),
        ),
    ]
