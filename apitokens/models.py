"""API tokens: what a vendor allows, what was granted, the secrets that prove it, the keys that sign.

`ApiToken` is also the OAuth client: one row is the truth, so deleting it ends everything.
"""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.functions import Coalesce
from django.utils import timezone
from uuid_utils.compat import uuid7

from apitokens.querysets import ApiTokenQuerySet
from tenants.constraints import CompositeForeignKey
from tenants.models import Environment, Membership, Role, Tenant, Vendor, VendorMembership

HOUR = 3_600
DAY = 24 * HOUR
# A portal session that nobody used for so long is over.
PORTAL_IDLE = timedelta(hours=1)


class Owner(models.TextChoices):
    ENVIRONMENT = "environment"
    TENANT = "tenant"
    USER = "user"


class Kind(models.TextChoices):
    CLIENT_CREDENTIALS = "client_credentials"
    ACCESS_TOKEN = "access_token"  # noqa: S105 -- the name of a kind


class TokenType(models.Model):
    """The vendor's configuration of one cell (owner × kind) in one environment. Durations are seconds."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="token_types")
    owner = models.CharField(max_length=11, choices=Owner)
    kind = models.CharField(max_length=18, choices=Kind)
    is_enabled = models.BooleanField(default=True)
    generation = models.PositiveIntegerField(default=0)
    carries_all_roles = models.BooleanField(default=True)
    roles = models.ManyToManyField(Role, through="TokenTypeRole", related_name="token_types")
    default_lifetime = models.PositiveIntegerField(null=True, blank=True)
    longest_lifetime = models.PositiveIntegerField(null=True, blank=True)
    may_never_expire = models.BooleanField(default=True)
    jwt_lifetime = models.PositiveIntegerField(default=HOUR)
    longest_overlap = models.PositiveIntegerField(default=30 * DAY)
    requires_ip_allowlist = models.BooleanField(default=False)
    quota = models.PositiveIntegerField(null=True, blank=True)
    accepts_basic = models.BooleanField(default=False)
    may_make_tokens = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["environment", "owner", "kind"], name="tokentype_one_per_cell"),
            models.UniqueConstraint(fields=["id", "environment", "owner", "kind"], name="tokentype_agreement_key"),
            models.CheckConstraint(condition=Q(owner__in=Owner.values), name="tokentype_owner_known"),
            models.CheckConstraint(condition=Q(kind__in=Kind.values), name="tokentype_kind_known"),
            models.CheckConstraint(
                condition=Q(jwt_lifetime__gte=60, jwt_lifetime__lte=30 * DAY), name="tokentype_jwt_lifetime_range"
            ),
            models.CheckConstraint(
                condition=Q(longest_overlap__gte=0, longest_overlap__lte=30 * DAY), name="tokentype_overlap_range"
            ),
            models.CheckConstraint(
                condition=Q(default_lifetime__isnull=False) | Q(may_never_expire=True),
                name="tokentype_default_never_is_allowed",
            ),
            models.CheckConstraint(
                condition=Q(longest_lifetime__isnull=True)
                | Q(default_lifetime__isnull=True)
                | Q(default_lifetime__lte=F("longest_lifetime")),
                name="tokentype_default_within_longest",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.owner} {self.kind}"


class TokenTypeRole(models.Model):
    token_type = models.ForeignKey(TokenType, on_delete=models.CASCADE, related_name="token_type_roles")
    role = models.ForeignKey(Role, on_delete=models.CASCADE, related_name="token_type_roles")
    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="+")
    owner = models.CharField(max_length=11, choices=Owner)
    kind = models.CharField(max_length=18, choices=Kind)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["token_type", "role"], name="tokentyperole_once"),
            CompositeForeignKey(
                fields=("token_type", "environment", "owner", "kind"),
                to_fields=("id", "environment", "owner", "kind"),
                name="tokentyperole_type_of_environment",
            ),
            CompositeForeignKey(
                fields=("role", "environment"),
                to_fields=("id", "environment"),
                name="tokentyperole_role_of_environment",
            ),
        ]

    def __str__(self) -> str:
        return f"token type {self.token_type_id} may carry role {self.role_id}"


class ApiToken(models.Model):
    """A named grant of rights to a machine: the grant as it was made, never what it is worth today (`policy`)."""

    class GrantedThrough(models.TextChoices):
        ROLES = "roles"
        PERMISSIONS = "permissions"
        OWNER = "owner"  # nothing picked: a personal token that has its owner's rights as they are at each use

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="api_tokens")
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="api_tokens")
    vendor = models.ForeignKey(Vendor, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    membership = models.ForeignKey(
        Membership, on_delete=models.PROTECT, null=True, blank=True, related_name="api_tokens"
    )
    vendor_membership = models.ForeignKey(
        VendorMembership, on_delete=models.PROTECT, null=True, blank=True, related_name="api_tokens"
    )
    token_type = models.ForeignKey(TokenType, on_delete=models.PROTECT, related_name="api_tokens")
    owner = models.CharField(max_length=11, choices=Owner)
    kind = models.CharField(max_length=18, choices=Kind)
    scope_id = models.GeneratedField(
        expression=Coalesce(F("tenant"), F("environment")), output_field=models.UUIDField(), db_persist=True
    )
    owner_id = models.GeneratedField(
        expression=Coalesce(F("membership"), F("vendor_membership"), F("tenant"), F("environment")),
        output_field=models.UUIDField(),
        db_persist=True,
    )
    token_id = models.CharField(max_length=12, unique=True)
    client_id = models.CharField(max_length=255, unique=True)
    name = models.CharField(max_length=100)
    # The name as names are told apart: no case, in any script.
    name_key = models.CharField(max_length=300, editable=False)
    description = models.CharField(max_length=1000, blank=True)
    granted_through = models.CharField(max_length=11, choices=GrantedThrough)
    granted = models.JSONField(default=list)
    grantor_level = models.PositiveSmallIntegerField(null=True, blank=True)
    roles = models.ManyToManyField(Role, through="ApiTokenRole", related_name="api_tokens")
    ip_allowlist = models.JSONField(default=list, blank=True)
    # The API identifiers that it may be used for; empty: all of the environment's.
    audiences = models.JSONField(default=list, blank=True)
    generation = models.PositiveIntegerField(default=0)
    disabled_at = models.DateTimeField(null=True, blank=True)
    not_before = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    # To the minute, and never part of a decision (R9).
    last_used_at = models.DateTimeField(null=True, editable=False)
    last_used_ip = models.GenericIPAddressField(null=True, editable=False)
    creator = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    parent = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="children")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ApiTokenQuerySet.as_manager()

    # On rows read `with_standing`, `with_suspicions`, `with_versions` and the like alone.
    held_versions: list["Secret"]
    role_rows: list[list[Any]]
    holder_rows: list[list[Any]]
    vendor_rows: list[list[str]]
    vendor_membership_is_listed: bool
    slot_rows: list[list[int]]
    audience_rows: list[list[Any]]
    last_four: str | None
    is_known_to_one_who_left: bool
    is_creator_member: bool
    is_creator_suspended: bool
    is_creator_without_grant_at_vendor: bool
    creator_rows: list[list[Any]]
    has_uncarried_role: bool
    secret_rows: list[list[Any]]
    key_rows: list[list[Any]]

    class Meta:
        indexes = [
            # Lists walk these. Not by id alone: PostgreSQL would walk the primary key across every tenant.
            models.Index(fields=["tenant", "-created_at", "-id"], name="apitoken_list_of_tenant"),
            models.Index(fields=["environment", "-created_at", "-id"], name="apitoken_list_of_environment"),
        ]
        constraints = [
            # Also the index that counts how many an owner holds.
            models.UniqueConstraint(
                fields=["owner_id", "environment", "name_key"], name="apitoken_name_unique_per_owner"
            ),
            models.UniqueConstraint(fields=["id", "scope_id", "environment", "kind"], name="apitoken_agreement_key"),
            models.CheckConstraint(condition=Q(owner__in=Owner.values), name="apitoken_owner_known"),
            models.CheckConstraint(condition=Q(kind__in=Kind.values), name="apitoken_kind_known"),
            models.CheckConstraint(condition=~Q(name="") & ~Q(name_key=""), name="apitoken_has_name"),
            models.CheckConstraint(
                condition=Q(
                    owner="environment",
                    tenant__isnull=True,
                    vendor__isnull=True,
                    membership__isnull=True,
                    vendor_membership__isnull=True,
                )
                | Q(
                    owner="tenant",
                    tenant__isnull=False,
                    vendor__isnull=True,
                    membership__isnull=True,
                    vendor_membership__isnull=True,
                )
                | Q(
                    owner="user",
                    tenant__isnull=False,
                    vendor__isnull=True,
                    membership__isnull=False,
                    vendor_membership__isnull=True,
                )
                | Q(
                    owner="user",
                    tenant__isnull=True,
                    vendor__isnull=False,
                    membership__isnull=True,
                    vendor_membership__isnull=False,
                ),
                name="apitoken_owner_agrees_with_columns",
            ),
            models.CheckConstraint(
                condition=Q(granted_through__in=["roles", "permissions"])
                | Q(granted_through="owner", owner="user", granted=[]),
                name="apitoken_only_personal_follow_owner",
            ),
            models.CheckConstraint(
                condition=Q(expires_at__isnull=True) | Q(expires_at__gt=F("created_at")),
                name="apitoken_expires_after_creation",
            ),
            models.CheckConstraint(
                condition=Q(not_before__isnull=True) | Q(expires_at__isnull=True) | Q(expires_at__gt=F("not_before")),
                name="apitoken_expires_after_it_begins",
            ),
            CompositeForeignKey(
                fields=("tenant", "environment"), to_fields=("id", "environment"), name="apitoken_tenant_of_environment"
            ),
            CompositeForeignKey(
                fields=("token_type", "environment", "owner", "kind"),
                to_fields=("id", "environment", "owner", "kind"),
                name="apitoken_type_is_its_cell",
            ),
            CompositeForeignKey(
                fields=("membership", "tenant"), to_fields=("id", "tenant"), name="apitoken_membership_of_tenant"
            ),
            CompositeForeignKey(
                fields=("environment", "vendor"), to_fields=("id", "vendor"), name="apitoken_environment_of_vendor"
            ),
            CompositeForeignKey(
                fields=("vendor_membership", "vendor"),
                to_fields=("id", "vendor"),
                name="apitoken_vendor_membership_of_vendor",
            ),
        ]

    def __str__(self) -> str:
        return f"API token {self.token_id}"


class ApiTokenRole(models.Model):
    token = models.ForeignKey(ApiToken, on_delete=models.CASCADE, related_name="token_roles")
    role = models.ForeignKey(Role, on_delete=models.CASCADE, related_name="token_roles")
    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=18, choices=Kind)
    scope_id = models.UUIDField()
    role_scope_id = models.UUIDField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["token", "role"], name="apitokenrole_once"),
            CompositeForeignKey(
                fields=("token", "scope_id", "environment", "kind"),
                to_fields=("id", "scope_id", "environment", "kind"),
                name="apitokenrole_token_scope",
            ),
            CompositeForeignKey(
                fields=("role", "role_scope_id"), to_fields=("id", "scope_id"), name="apitokenrole_role_scope"
            ),
            models.CheckConstraint(
                condition=Q(role_scope_id=F("scope_id")) | Q(role_scope_id=F("environment")),
                name="apitokenrole_role_available_to_token",
            ),
        ]

    def __str__(self) -> str:
        return f"token {self.token_id} has role {self.role_id}"


class Secret(models.Model):
    """One version of a token's proof: the digest of a secret, or a public key. Live while it holds a slot.

    Two slots a token: at most two live versions (R7), whoever writes.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    token = models.ForeignKey(ApiToken, on_delete=models.CASCADE, related_name="secrets")
    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="+")
    scope_id = models.UUIDField()
    kind = models.CharField(max_length=18, choices=Kind)
    slot = models.PositiveSmallIntegerField(null=True)
    digest = models.BinaryField(max_length=32, null=True)
    pepper_id = models.PositiveSmallIntegerField(null=True)
    last_four = models.CharField(max_length=4, blank=True)
    public_key = models.JSONField(null=True)
    shown_to = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True)
    retired_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True, editable=False)
    last_used_ip = models.GenericIPAddressField(null=True, editable=False)

    class Meta:
        indexes = [models.Index(fields=["environment", "last_four"], name="secret_found_by_last_four")]
        constraints = [
            models.UniqueConstraint(fields=["token", "slot"], name="secret_at_most_two_live"),
            models.CheckConstraint(
                condition=Q(slot__isnull=False, slot__in=[1, 2], retired_at__isnull=True)
                | Q(slot__isnull=True, retired_at__isnull=False),
                name="secret_slot_until_retired",
            ),
            models.CheckConstraint(
                condition=Q(digest__isnull=False, pepper_id__isnull=False, public_key__isnull=True)
                | Q(digest__isnull=True, pepper_id__isnull=True, public_key__isnull=False, kind="client_credentials"),
                name="secret_is_digest_or_public_key",
            ),
            CompositeForeignKey(
                fields=("token", "scope_id", "environment", "kind"),
                to_fields=("id", "scope_id", "environment", "kind"),
                name="secret_agrees_with_token",
            ),
        ]

    def __str__(self) -> str:
        return f"secret {self.id} of token {self.token_id}"

    @property
    def known_as(self) -> dict[str, str]:
        """What names it in public: a secret's last four characters, or a public key's thumbprint (RFC 7638)."""
        return {"kid": self.public_key["kid"]} if self.public_key else {"last_four": self.last_four}


class IssueNonce(models.Model):
    """That a form or an `Idempotency-Key` has been used, and for which token: the second one makes nothing (R1)."""

    actor_id = models.UUIDField()
    digest = models.BinaryField(max_length=32)
    token_id = models.UUIDField(null=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["actor_id", "digest"], name="issuenonce_used_once")]

    def __str__(self) -> str:
        return f"nonce of {self.actor_id}"


class SigningKey(models.Model):
    """A key of an environment's ring. The private part is encrypted under a key that lives outside the database."""

    class State(models.TextChoices):
        PUBLISHED = "published"
        ACTIVE = "active"
        RETIRING = "retiring"
        RETIRED = "retired"
        COMPROMISED = "compromised"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="signing_keys")
    kid = models.CharField(max_length=43, unique=True)
    algorithm = models.CharField(max_length=5, choices=Environment.Algorithm)
    state = models.CharField(max_length=11, choices=State)
    public_jwk = models.JSONField()
    private_key_encrypted = models.BinaryField()
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # While it is published: when it is to sign; afterwards: since when it has.
    active_from = models.DateTimeField(null=True)
    # When its successor took over; it verifies for the longest JWT lifetime more.
    retiring_from = models.DateTimeField(null=True)
    # Retired or compromised: nothing that it signed is believed any more.
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["environment"], condition=Q(state="active"), name="signingkey_one_active_per_environment"
            ),
            models.CheckConstraint(
                condition=Q(state__in=["published", "active", "retiring", "retired", "compromised"]),
                name="signingkey_state_known",
            ),
            models.CheckConstraint(
                condition=Q(algorithm__in=["ES256", "RS256", "EdDSA"]), name="signingkey_algorithm_known"
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["active", "retiring"]) | Q(active_from__isnull=False),
                name="signingkey_active_since",
            ),
            models.CheckConstraint(
                condition=~Q(state="retiring") | Q(retiring_from__isnull=False), name="signingkey_retiring_since"
            ),
            models.CheckConstraint(
                condition=Q(state__in=["retired", "compromised"], ended_at__isnull=False)
                | Q(state__in=["published", "active", "retiring"], ended_at__isnull=True),
                name="signingkey_ended_since",
            ),
        ]

    def __str__(self) -> str:
        return f"signing key {self.kid}"


class StatusSlot(models.Model):
    """The place of (token, tenant of the JWT, `gen`) in an environment's status lists; never used again.

    It names the token by id alone: the place outlives the token, and reads as invalid once the token is gone.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="status_slots")
    index = models.PositiveIntegerField()
    token_id = models.UUIDField()
    tenant_id = models.UUIDField(null=True)
    generation = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["environment", "index"], name="statusslot_index_never_reused"),
            models.UniqueConstraint(
                Coalesce(F("tenant_id"), F("token_id")), F("token_id"), F("generation"), name="statusslot_once"
            ),
        ]

    def __str__(self) -> str:
        return f"status slot {self.index} of environment {self.environment_id}"


class StatusCounter(models.Model):
    """An environment's high-water mark: the index that its next status slot gets. It only ever grows."""

    environment = models.OneToOneField(
        Environment, on_delete=models.CASCADE, primary_key=True, related_name="status_counter"
    )
    next_index = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return f"next status slot of environment {self.environment_id}: {self.next_index}"


class RevokedJWT(models.Model):
    """A JWT that its client ended before its time (RFC 7009), by `jti`; kept until it would have expired."""

    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="revoked_jwts")
    jti = models.CharField(max_length=64)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["environment", "jti"], name="revokedjwt_once")]

    def __str__(self) -> str:
        return f"revoked JWT {self.jti}"


class UsedAssertion(models.Model):
    """A client assertion that was accepted (RFC 7523 section 3): its `jti` opens nothing a second time."""

    token = models.ForeignKey(ApiToken, on_delete=models.CASCADE, related_name="used_assertions")
    jti_digest = models.BinaryField(max_length=32)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["token", "jti_digest"], name="usedassertion_once")]

    def __str__(self) -> str:
        return f"assertion of token {self.token_id}"


class RefusalCount(models.Model):
    """How many credentials were refused of late, by client id or by address, each in one of a fixed number of buckets.

    So strangers can't make it grow. Two that share a bucket share a limit, which a right secret never meets.
    """

    bucket = models.PositiveIntegerField(primary_key=True)
    began_at = models.DateTimeField()
    count = models.PositiveIntegerField()

    def __str__(self) -> str:
        return f"refusals in bucket {self.bucket}"


class UsageHour(models.Model):
    """How often a token was used within an hour, by outcome and by the tenant it acted in, if any.

    It names the token by id alone: the count outlives the token. `scope_id` is the tenant's id, else the environment's.
    """

    class Outcome(models.TextChoices):
        GRANTED = "granted"  # a JWT at the token endpoint
        ACCEPTED = "accepted"  # a request to our own API
        INTROSPECTED = "introspected"  # an answer that it is active
        UNUSABLE = "unusable"  # the right secret or JWT of a token that does not work now, or not from there
        REJECTED = "rejected"  # the right client, asking for what it may not have
        WRONG_SECRET = "wrong_secret"  # noqa: S105 -- the name of an outcome
        RETIRED_SECRET = "retired_secret"  # noqa: S105 -- the name of an outcome

    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="usage_hours")
    scope_id = models.UUIDField()
    token_id = models.UUIDField()
    hour = models.DateTimeField()
    outcome = models.CharField(max_length=14, choices=Outcome)
    count = models.PositiveBigIntegerField()

    class Meta:
        indexes = [
            models.Index(fields=["environment", "hour"], name="usagehour_of_environment"),
            models.Index(fields=["scope_id", "hour"], name="usagehour_of_scope"),
            models.Index(fields=["hour"], name="usagehour_to_erase"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["token_id", "scope_id", "hour", "outcome"], name="usagehour_once"),
            models.CheckConstraint(
                condition=Q(
                    outcome__in=[
                        "granted",
                        "accepted",
                        "introspected",
                        "unusable",
                        "rejected",
                        "wrong_secret",
                        "retired_secret",
                    ]
                ),
                name="usagehour_outcome_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.count} {self.outcome} of token {self.token_id}"


class PortalSessionQuerySet(models.QuerySet["PortalSession"]):
    def live(self, *, at: datetime) -> "PortalSessionQuerySet":
        """Those whose link waits to be opened, and those that were opened and neither ended nor left idle.

        As a JWT does, one lives while the token that opened it works.
        """
        return self.if_token_works(at=at).filter(Exists(ApiToken.objects.usable(at=at).filter(pk=OuterRef("token"))))

    def if_token_works(self, *, at: datetime) -> "PortalSessionQuerySet":
        """Those that live if it does: for who asks that otherwise.

        The generations of the rows above one, its member's among them, add up to what they did when it was made (R5):
        what was stopped once stays ended.
        """
        above = ("environment", "tenant", "membership", "token", "token__token_type")
        generation = sum((F(f"{row}__generation") for row in above[1:]), start=F(f"{above[0]}__generation"))
        waits = Q(opened_at__isnull=True, link_expires_at__gt=at)
        return self.filter(
            waits | Q(last_seen_at__gt=at - PORTAL_IDLE),
            Exists(Membership.objects.active().filter(pk=OuterRef("membership"))),
            ends_at__gt=at,
            generation=generation,
        )

    def over(self, *, at: datetime) -> "PortalSessionQuerySet":
        """Those that time alone has ended."""
        unopened = Q(opened_at__isnull=True, link_expires_at__lte=at)
        return self.filter(unopened | Q(ends_at__lte=at) | Q(last_seen_at__lte=at - PORTAL_IDLE))


class PortalSession(models.Model):
    """Somebody for whom the vendor's backend vouches, in one tenant's pages for a while. Its link works once.

    It goes with the token that opened it, and with the membership.
    """

    class Section(models.TextChoices):
        TOKENS = "tokens"
        MEMBERS = "members"
        ROLES = "roles"
        USAGE = "usage"
        AUDIT = "audit"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="portal_sessions")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="portal_sessions")
    membership = models.ForeignKey(Membership, on_delete=models.CASCADE, related_name="portal_sessions")
    token = models.ForeignKey(ApiToken, on_delete=models.CASCADE, related_name="portal_sessions")
    digest = models.BinaryField(max_length=32)
    generation = models.PositiveIntegerField()
    # Which of the tenant's pages it shows.
    sections = models.JSONField()
    return_url = models.CharField(max_length=2000, blank=True)
    locale = models.CharField(max_length=35, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    link_expires_at = models.DateTimeField()
    ends_at = models.DateTimeField(db_index=True)
    opened_at = models.DateTimeField(null=True)
    # To the minute.
    last_seen_at = models.DateTimeField(null=True)

    objects = PortalSessionQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["environment", "-created_at", "-id"], name="portalsession_of_environment"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["digest"], name="portalsession_link_unique"),
            models.CheckConstraint(
                condition=Q(opened_at__isnull=True, last_seen_at__isnull=True)
                | Q(opened_at__isnull=False, last_seen_at__isnull=False),
                name="portalsession_seen_once_opened",
            ),
            models.CheckConstraint(
                condition=Q(link_expires_at__gt=F("created_at"), ends_at__gte=F("link_expires_at")),
                name="portalsession_ends_after_its_link",
            ),
            CompositeForeignKey(
                fields=("membership", "tenant"), to_fields=("id", "tenant"), name="portalsession_membership_of_tenant"
            ),
            CompositeForeignKey(
                fields=("tenant", "environment"),
                to_fields=("id", "environment"),
                name="portalsession_tenant_of_environment",
            ),
        ]

    def __str__(self) -> str:
        return f"portal session {self.id}"
