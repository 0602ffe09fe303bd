"""The vendor's world: environments (hard walls), the tenants in them, who belongs to which, and what roles hold."""

from django.conf import settings
from django.db import models
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.functions import Coalesce, Lower
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from uuid_utils.compat import uuid7

from tenants.constraints import CompositeForeignKey

SLUG = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
PREFIX = r"^[a-z0-9_]{2,32}$"
# RFC 6749 section 3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
SCOPE_TOKEN = r"^[!#-\[\]-~]{1,128}$"  # noqa: S105 -- a grammar, not a credential
ROLE_KEY = r"^(own:)?[a-z0-9][a-z0-9_.-]{0,63}$"
UUID_FORM = r"^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$"
LEVEL_MAX = 32_767


class SlugKind(models.TextChoices):
    ENVIRONMENT = "environment"
    TENANT = "tenant"


class TakenSlug(models.Model):
    """Every slug ever used in an address. Triggers on the two tables claim it at insert; a claim is never released."""

    kind = models.CharField(max_length=11, choices=SlugKind)
    slug = models.CharField(max_length=63)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["kind", "slug"], name="takenslug_never_reused")]

    def __str__(self) -> str:
        return f"{self.kind} {self.slug}"


class Vendor(models.Model):
    """Who runs the product whose API the tokens are for."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=100)
    slug = models.CharField(max_length=63, unique=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(Lower("name"), name="vendor_name_unique"),
            models.CheckConstraint(condition=Q(slug__regex=SLUG), name="vendor_slug_form"),
        ]

    def __str__(self) -> str:
        return self.name


class Environment(models.Model):
    """A hard wall: its own issuer, audiences, signing keys, token prefix, permissions, roles, token types, tenants."""

    class Algorithm(models.TextChoices):
        ES256 = "ES256"
        RS256 = "RS256"
        EDDSA = "EdDSA"

    class Colour(models.TextChoices):
        """On every page of the environment, so that nobody takes production for staging."""

        GREY = "grey", _("Grey")
        BLUE = "blue", _("Blue")
        TEAL = "teal", _("Teal")
        GREEN = "green", _("Green")
        AMBER = "amber", _("Amber")
        RED = "red", _("Red")
        PURPLE = "purple", _("Purple")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    vendor = models.ForeignKey(Vendor, on_delete=models.PROTECT, related_name="environments")
    name = models.CharField(max_length=100)
    slug = models.CharField(max_length=63, unique=True)
    colour = models.CharField(max_length=6, choices=Colour, default=Colour.BLUE)
    token_prefix = models.CharField(max_length=32, unique=True)
    signing_algorithm = models.CharField(max_length=5, choices=Algorithm, default=Algorithm.ES256)
    strict_ceiling = models.BooleanField(default=True)
    # Seconds since the last proof of who somebody is, after which making and ending tokens asks for it again.
    reauthenticate_after = models.PositiveIntegerField(default=15 * 60)
    # Where the portal may stand in a frame, and where its people come back to.
    embedding_origins = models.JSONField(default=list, blank=True)
    generation = models.PositiveIntegerField(default=0)
    suspended_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint("vendor", Lower("name"), name="environment_name_unique_in_vendor"),
            models.UniqueConstraint(fields=["id", "vendor"], name="environment_agreement_key"),
            models.CheckConstraint(condition=Q(slug__regex=SLUG), name="environment_slug_form"),
            models.CheckConstraint(condition=Q(token_prefix__regex=PREFIX), name="environment_token_prefix_form"),
            models.CheckConstraint(
                condition=Q(signing_algorithm__in=["ES256", "RS256", "EdDSA"]), name="environment_algorithm_known"
            ),
            models.CheckConstraint(
                condition=Q(colour__in=["grey", "blue", "teal", "green", "amber", "red", "purple"]),
                name="environment_colour_known",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def issuer(self) -> str:
        """The `iss` of this environment's JWTs: from the setting, never from a request's headers."""
        return f"{settings.ORIGIN}/e/{self.slug}"


class Brand(models.Model):
    """What the pages of an environment's tenants show in place of ours. What is empty is ours."""

    environment = models.OneToOneField(Environment, on_delete=models.CASCADE, primary_key=True, related_name="brand")
    name = models.CharField(max_length=60, blank=True)
    accent = models.CharField(max_length=7, blank=True)
    logo = models.BinaryField(null=True, blank=True)
    logo_type = models.CharField(max_length=16, blank=True)
    # Of the picture: its address changes with it, so that browsers may keep it.
    logo_digest = models.CharField(max_length=16, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(accent="") | Q(accent__regex=r"^#[0-9a-f]{6}$"), name="brand_accent_form"
            ),
            models.CheckConstraint(
                condition=Q(logo__isnull=True, logo_type="", logo_digest="")
                | Q(Q(logo__isnull=False, logo_type__in=["image/png", "image/webp"]), ~Q(logo_digest="")),
                name="brand_logo_with_type",
            ),
        ]

    def __str__(self) -> str:
        return f"brand of {self.environment_id}"


class ApiIdentifier(models.Model):
    """An audience URI of the vendor's API in one environment (`aud`, RFC 8707 `resource`)."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="api_identifiers")
    uri = models.CharField(max_length=255)
    is_default = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["environment", "uri"], name="apiidentifier_unique_in_environment"),
            models.UniqueConstraint(
                fields=["environment"], condition=Q(is_default=True), name="apiidentifier_one_default"
            ),
            # RFC 8707 section 2: an absolute URI without a fragment.
            models.CheckConstraint(
                condition=Q(uri__regex=r"^[a-z][a-z0-9+.-]*:[^\s#]+$"), name="apiidentifier_absolute_uri"
            ),
        ]

    def __str__(self) -> str:
        return self.uri


class Tenant(models.Model):
    """A customer of the vendor, in one environment."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="tenants")
    name = models.CharField(max_length=100)
    slug = models.CharField(max_length=63, unique=True)
    external_id = models.CharField(max_length=255, null=True, blank=True)  # noqa: DJ001 -- absent is not empty
    generation = models.PositiveIntegerField(default=0)
    suspended_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        indexes = [models.Index(fields=["environment", "-created_at", "-id"], name="tenant_list_of_environment")]
        constraints = [
            models.UniqueConstraint("environment", Lower("name"), name="tenant_name_unique_in_environment"),
            models.UniqueConstraint(fields=["environment", "external_id"], name="tenant_external_id_unique"),
            models.UniqueConstraint(fields=["id", "environment"], name="tenant_agreement_key"),
            models.CheckConstraint(condition=Q(slug__regex=SLUG), name="tenant_slug_form"),
            models.CheckConstraint(
                condition=~Q(external_id="") & ~Q(external_id__regex=UUID_FORM),
                name="tenant_external_id_not_like_ours",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Permission(models.Model):
    """A right, by its scope-token (RFC 6749 section 3.3). The built-in ones guard our own pages and endpoints."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="permissions")
    key = models.CharField(max_length=128)
    description = models.CharField(max_length=255, blank=True)
    is_built_in = models.BooleanField(default=False)
    for_environment_tokens = models.BooleanField(default=True)
    for_tenant_tokens = models.BooleanField(default=True)
    for_personal_tokens = models.BooleanField(default=True)
    is_safe_in_public = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["environment", "key"], name="permission_key_unique_in_environment"),
            models.UniqueConstraint(fields=["id", "environment"], name="permission_agreement_key"),
            models.CheckConstraint(condition=Q(key__regex=SCOPE_TOKEN), name="permission_key_is_scope_token"),
        ]

    def __str__(self) -> str:
        return self.key

    @property
    def meaning(self) -> str:
        """The description as a page shows it: what is built in is described in the reader's language."""
        return gettext(self.description) if self.is_built_in and self.description else self.description


class Role(models.Model):
    """A bundle of permissions with a level (higher = more power): the vendor's for all tenants, or one tenant's own.

    A tenant's own role has a key that starts with `own:`, so that no tenant can name a role like one of the vendor's
    and have the vendor's API take it for that one.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="roles")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="own_roles")
    scope_id = models.GeneratedField(
        expression=Coalesce(F("tenant"), F("environment")), output_field=models.UUIDField(), db_persist=True
    )
    key = models.CharField(max_length=68)
    name = models.CharField(max_length=100)
    level = models.PositiveSmallIntegerField()
    # Each new tenant is born with a client that has this role; in no more than one role an environment.
    is_for_new_tenants = models.BooleanField(default=False)
    permissions = models.ManyToManyField(Permission, through="RolePermission", related_name="roles")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["scope_id", "key"], name="role_key_unique"),
            models.UniqueConstraint("scope_id", Lower("name"), name="role_name_unique"),
            models.UniqueConstraint(fields=["id", "scope_id"], name="role_scope_agreement_key"),
            models.UniqueConstraint(fields=["id", "environment"], name="role_environment_agreement_key"),
            CompositeForeignKey(
                fields=("tenant", "environment"), to_fields=("id", "environment"), name="role_tenant_of_environment"
            ),
            models.CheckConstraint(condition=Q(key__regex=ROLE_KEY), name="role_key_form"),
            models.CheckConstraint(
                condition=Q(tenant__isnull=True, key__regex=r"^[^:]+$")
                | Q(tenant__isnull=False, key__startswith="own:"),
                name="role_own_key_marked",
            ),
            models.CheckConstraint(condition=Q(level__gte=0, level__lte=LEVEL_MAX), name="role_level_range"),
            models.UniqueConstraint(
                fields=["environment"], condition=Q(is_for_new_tenants=True), name="role_one_for_new_tenants"
            ),
            models.CheckConstraint(
                condition=Q(is_for_new_tenants=False) | Q(tenant__isnull=True),
                name="role_for_new_tenants_is_the_vendors",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class RolePermission(models.Model):
    role = models.ForeignKey(Role, on_delete=models.CASCADE, related_name="role_permissions")
    permission = models.ForeignKey(Permission, on_delete=models.CASCADE, related_name="role_permissions")
    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["role", "permission"], name="rolepermission_once"),
            CompositeForeignKey(
                fields=("role", "environment"),
                to_fields=("id", "environment"),
                name="rolepermission_role_of_environment",
            ),
            CompositeForeignKey(
                fields=("permission", "environment"),
                to_fields=("id", "environment"),
                name="rolepermission_permission_of_environment",
            ),
        ]

    def __str__(self) -> str:
        return f"role {self.role_id} holds permission {self.permission_id}"


class MembershipQuerySet(models.QuerySet["Membership"]):
    def active(self) -> "MembershipQuerySet":
        """Memberships that open a door: neither they nor anything above them is suspended, ended or deleted."""
        return self.filter(
            suspended_at__isnull=True,
            ended_at__isnull=True,
            user__is_active=True,
            tenant__suspended_at__isnull=True,
            tenant__deleted_at__isnull=True,
            environment__suspended_at__isnull=True,
            environment__deleted_at__isnull=True,
        )

    def with_a_way_in(self) -> "MembershipQuerySet":
        """Those of people who can sign in to the tenant: locally unless its single sign-on is enforced, or by whoever
        vouches for them, which is its environment or the provider that it has now (R12)."""
        provider = IdentityProvider.objects.filter(tenant=OuterRef("tenant"))
        local = Q(user__voucher_id__isnull=True) & ~Exists(provider.filter(is_enforced=True))
        has_it = provider.filter(voucher_id=OuterRef("user__voucher_id"))
        vouched = Q(user__voucher_id=F("environment")) | Exists(has_it)
        return self.filter(local | vouched)


class Membership(models.Model):
    """A person in a tenant, with roles. An ended one stays for a while, so that coming back is not a new person."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="memberships")
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="memberships")
    roles = models.ManyToManyField(Role, through="MembershipRole", related_name="memberships")
    generation = models.PositiveIntegerField(default=0)
    suspended_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = MembershipQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["tenant", "-created_at", "-id"], name="membership_list_of_tenant")]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "user"], name="membership_once_per_tenant"),
            models.UniqueConstraint(fields=["id", "tenant"], name="membership_agreement_key"),
            CompositeForeignKey(
                fields=("tenant", "environment"),
                to_fields=("id", "environment"),
                name="membership_tenant_of_environment",
            ),
        ]

    def __str__(self) -> str:
        return f"membership {self.id}"


class MembershipRole(models.Model):
    membership = models.ForeignKey(Membership, on_delete=models.CASCADE, related_name="membership_roles")
    role = models.ForeignKey(Role, on_delete=models.CASCADE, related_name="membership_roles")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="+")
    role_scope_id = models.UUIDField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["membership", "role"], name="membershiprole_once"),
            CompositeForeignKey(
                fields=("membership", "tenant"),
                to_fields=("id", "tenant"),
                name="membershiprole_membership_of_tenant",
            ),
            CompositeForeignKey(
                fields=("tenant", "environment"),
                to_fields=("id", "environment"),
                name="membershiprole_tenant_of_environment",
            ),
            CompositeForeignKey(
                fields=("role", "role_scope_id"), to_fields=("id", "scope_id"), name="membershiprole_role_scope"
            ),
            models.CheckConstraint(
                condition=Q(role_scope_id=F("tenant")) | Q(role_scope_id=F("environment")),
                name="membershiprole_role_available_in_tenant",
            ),
        ]

    def __str__(self) -> str:
        return f"membership {self.membership_id} has role {self.role_id}"


class VendorMembershipQuerySet(models.QuerySet["VendorMembership"]):
    def active(self) -> "VendorMembershipQuerySet":
        return self.filter(suspended_at__isnull=True, ended_at__isnull=True, user__is_active=True)

    def covering(self, environment: Environment) -> "VendorMembershipQuerySet":
        """Those that reach the environment: all its vendor's, or by name."""
        listed = VendorMembershipEnvironment.objects.filter(environment=environment).values("vendor_membership")
        return self.filter(Q(in_all_environments=True) | Q(pk__in=listed), vendor=environment.vendor_id)


class VendorMembership(models.Model):
    """A person of the vendor: an owner or an admin may grant anything of their environments, an auditor reads."""

    class Role(models.TextChoices):
        OWNER = "owner"
        ADMIN = "admin"
        AUDITOR = "auditor"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    vendor = models.ForeignKey(Vendor, on_delete=models.PROTECT, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="vendor_memberships")
    role = models.CharField(max_length=7, choices=Role)
    in_all_environments = models.BooleanField(default=True)
    environments = models.ManyToManyField(
        Environment, through="VendorMembershipEnvironment", related_name="vendor_memberships"
    )
    generation = models.PositiveIntegerField(default=0)
    suspended_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = VendorMembershipQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["vendor", "user"], name="vendormembership_once_per_vendor"),
            models.UniqueConstraint(fields=["id", "vendor"], name="vendormembership_agreement_key"),
            models.CheckConstraint(
                condition=Q(role__in=["owner", "admin", "auditor"]), name="vendormembership_role_known"
            ),
        ]

    def __str__(self) -> str:
        return f"vendor membership {self.id}"


class VendorMembershipEnvironment(models.Model):
    vendor_membership = models.ForeignKey(VendorMembership, on_delete=models.CASCADE, related_name="listed")
    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="+")
    vendor = models.ForeignKey(Vendor, on_delete=models.CASCADE, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["vendor_membership", "environment"], name="vendormembershipenvironment_once"
            ),
            CompositeForeignKey(
                fields=("vendor_membership", "vendor"),
                to_fields=("id", "vendor"),
                name="vendormembershipenvironment_membership_of_vendor",
            ),
            CompositeForeignKey(
                fields=("environment", "vendor"),
                to_fields=("id", "vendor"),
                name="vendormembershipenvironment_environment_of_vendor",
            ),
        ]

    def __str__(self) -> str:
        return f"vendor membership {self.vendor_membership_id} covers environment {self.environment_id}"


class Invitation(models.Model):
    """An offer of a membership, of a tenant or of the vendor, to whoever has the e-mail and opens the one-time link.

    Of the link's nonce there is a digest alone. What it gives is decided again when it is accepted: it is worth what
    its sender may still hand out then.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    vendor = models.ForeignKey(Vendor, on_delete=models.CASCADE, related_name="invitations")
    environment = models.ForeignKey(
        Environment, on_delete=models.CASCADE, null=True, blank=True, related_name="invitations"
    )
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="invitations")
    email = models.EmailField()
    roles = models.ManyToManyField(Role, through="InvitationRole", related_name="invitations")
    vendor_role = models.CharField(max_length=7, choices=VendorMembership.Role, blank=True)
    in_all_environments = models.BooleanField(default=True)
    environments = models.ManyToManyField(Environment, through="InvitationEnvironment", related_name="+")
    digest = models.BinaryField(max_length=32)
    # Who sent it, by what they may hand out; all empty for the system.
    sender_membership = models.ForeignKey(Membership, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    sender_vendor_membership = models.ForeignKey(
        VendorMembership, on_delete=models.CASCADE, null=True, blank=True, related_name="+"
    )
    sender_token_id = models.UUIDField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["tenant", "-created_at", "-id"], name="invitation_list_of_tenant"),
            models.Index(fields=["vendor", "-created_at", "-id"], name="invitation_list_of_vendor"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["digest"], name="invitation_digest_unique"),
            models.UniqueConstraint(fields=["id", "tenant"], name="invitation_agreement_key"),
            models.UniqueConstraint(fields=["id", "vendor"], name="invitation_vendor_agreement_key"),
            # One open offer for one person in one place: a new one takes the place of the old.
            models.UniqueConstraint(
                "vendor",
                Lower("email"),
                condition=Q(tenant__isnull=True, accepted_at__isnull=True),
                name="invitation_one_open_per_vendor",
            ),
            models.UniqueConstraint(
                "tenant",
                Lower("email"),
                condition=Q(tenant__isnull=False, accepted_at__isnull=True),
                name="invitation_one_open_per_tenant",
            ),
            models.CheckConstraint(
                condition=Q(tenant__isnull=False, environment__isnull=False, vendor_role="")
                | Q(tenant__isnull=True, environment__isnull=True, vendor_role__in=["owner", "admin", "auditor"]),
                name="invitation_to_a_tenant_or_a_vendor",
            ),
            models.CheckConstraint(condition=Q(expires_at__gt=F("created_at")), name="invitation_expires_later"),
            CompositeForeignKey(
                fields=("tenant", "environment"),
                to_fields=("id", "environment"),
                name="invitation_tenant_of_environment",
            ),
            CompositeForeignKey(
                fields=("environment", "vendor"), to_fields=("id", "vendor"), name="invitation_environment_of_vendor"
            ),
        ]

    def __str__(self) -> str:
        return f"invitation {self.id}"


class InvitationRole(models.Model):
    invitation = models.ForeignKey(Invitation, on_delete=models.CASCADE, related_name="invitation_roles")
    role = models.ForeignKey(Role, on_delete=models.CASCADE, related_name="+")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="+")
    role_scope_id = models.UUIDField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["invitation", "role"], name="invitationrole_once"),
            CompositeForeignKey(
                fields=("invitation", "tenant"),
                to_fields=("id", "tenant"),
                name="invitationrole_invitation_of_tenant",
            ),
            CompositeForeignKey(
                fields=("tenant", "environment"),
                to_fields=("id", "environment"),
                name="invitationrole_tenant_of_environment",
            ),
            CompositeForeignKey(
                fields=("role", "role_scope_id"), to_fields=("id", "scope_id"), name="invitationrole_role_scope"
            ),
            models.CheckConstraint(
                condition=Q(role_scope_id=F("tenant")) | Q(role_scope_id=F("environment")),
                name="invitationrole_role_available_in_tenant",
            ),
        ]

    def __str__(self) -> str:
        return f"invitation {self.invitation_id} offers role {self.role_id}"


class InvitationEnvironment(models.Model):
    invitation = models.ForeignKey(Invitation, on_delete=models.CASCADE, related_name="listed")
    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="+")
    vendor = models.ForeignKey(Vendor, on_delete=models.CASCADE, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["invitation", "environment"], name="invitationenvironment_once"),
            CompositeForeignKey(
                fields=("invitation", "vendor"),
                to_fields=("id", "vendor"),
                name="invitationenvironment_invitation_of_vendor",
            ),
            CompositeForeignKey(
                fields=("environment", "vendor"),
                to_fields=("id", "vendor"),
                name="invitationenvironment_environment_of_vendor",
            ),
        ]

    def __str__(self) -> str:
        return f"invitation {self.invitation_id} covers environment {self.environment_id}"


class IdentityProvider(models.Model):
    """A tenant's own OpenID Connect provider, which vouches for its people (R12).

    What a newcomer gets is decided again when they come: it is worth what `chosen_by…` may still hand out then.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="+")
    tenant = models.OneToOneField(Tenant, on_delete=models.CASCADE, related_name="identity_provider")
    issuer = models.CharField(max_length=255)
    # Stands for this issuer in this tenant and for no other: whom another one vouches for is somebody else.
    voucher_id = models.UUIDField(unique=True, editable=False)
    client_id = models.CharField(max_length=255)
    # Under the key-encryption keys.
    sealed_secret = models.TextField()
    secret_set_at = models.DateTimeField()
    is_enforced = models.BooleanField(default=False)
    roles = models.ManyToManyField(Role, through="IdentityProviderRole", related_name="identity_providers")
    # Who chose the roles, by what they may hand out; all empty for the system.
    chosen_by_membership = models.ForeignKey(
        Membership, on_delete=models.CASCADE, null=True, blank=True, related_name="+"
    )
    chosen_by_vendor_membership = models.ForeignKey(
        VendorMembership, on_delete=models.CASCADE, null=True, blank=True, related_name="+"
    )
    chosen_by_token_id = models.UUIDField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["id", "tenant"], name="identityprovider_agreement_key"),
            models.CheckConstraint(
                condition=Q(issuer__regex=r"^https?://[^\s?#]+$"), name="identityprovider_issuer_form"
            ),
            CompositeForeignKey(
                fields=("tenant", "environment"),
                to_fields=("id", "environment"),
                name="identityprovider_tenant_of_environment",
            ),
        ]

    def __str__(self) -> str:
        return self.issuer


class IdentityProviderRole(models.Model):
    """A role that a newcomer gets."""

    provider = models.ForeignKey(IdentityProvider, on_delete=models.CASCADE, related_name="provider_roles")
    role = models.ForeignKey(Role, on_delete=models.CASCADE, related_name="+")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="+")
    role_scope_id = models.UUIDField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["provider", "role"], name="identityproviderrole_once"),
            CompositeForeignKey(
                fields=("provider", "tenant"),
                to_fields=("id", "tenant"),
                name="identityproviderrole_provider_of_tenant",
            ),
            CompositeForeignKey(
                fields=("tenant", "environment"),
                to_fields=("id", "environment"),
                name="identityproviderrole_tenant_of_environment",
            ),
            CompositeForeignKey(
                fields=("role", "role_scope_id"), to_fields=("id", "scope_id"), name="identityproviderrole_role_scope"
            ),
            models.CheckConstraint(
                condition=Q(role_scope_id=F("tenant")) | Q(role_scope_id=F("environment")),
                name="identityproviderrole_role_available_in_tenant",
            ),
        ]

    def __str__(self) -> str:
        return f"provider {self.provider_id} gives role {self.role_id}"
