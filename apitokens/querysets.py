"""What one query can say of tokens: which are usable (R5), and all that the policy needs to know of each (R4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from django.apps import apps
from django.db.models import (
    BooleanField,
    CharField,
    DateTimeField,
    DurationField,
    Exists,
    ExpressionWrapper,
    F,
    Func,
    JSONField,
    OuterRef,
    Prefetch,
    Q,
    QuerySet,
    Subquery,
    TextField,
    UUIDField,
    Value,
)
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Cast, Coalesce, Concat
from django.db.models.lookups import Exact, GreaterThan

from apitokens.paging import PAGE_MAX
from apitokens.prepared import Given, Prepared
from tenants.models import (
    ApiIdentifier,
    Environment,
    Membership,
    MembershipRole,
    Permission,
    RolePermission,
    VendorMembership,
    VendorMembershipEnvironment,
)

if TYPE_CHECKING:
    from apitokens.models import ApiToken


class JSONRows(Subquery):
    """The rows of a `.values(…)` query as one JSON array of arrays, so that one round trip brings them along."""

    output_field = JSONField()

    def __init__(self, rows: QuerySet[Any], **extra: Any) -> None:
        self.columns = list(rows.query.annotation_select)
        super().__init__(rows, **extra)

    def as_sqlite(self, compiler: Any, connection: Any) -> Any:
        columns = ", ".join(f"u.{column}" for column in self.columns)
        template = f"(SELECT json_group_array(json_array({columns})) FROM (%(subquery)s) u)"  # noqa: S608 -- our own names
        return self.as_sql(compiler, connection, template=template)

    def as_postgresql(self, compiler: Any, connection: Any) -> Any:
        columns = ", ".join(f"u.{column}" for column in self.columns)
        rows = f"jsonb_agg(jsonb_build_array({columns}))"
        template = f"(SELECT coalesce({rows}, '[]') FROM (%(subquery)s) u)"  # noqa: S608 -- our own names
        return self.as_sql(compiler, connection, template=template)


class Hex(Func):
    """Bytes as hexadecimal digits, which JSON can hold."""

    output_field = CharField()

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        return self.as_sql(compiler, connection, function="hex")

    def as_postgresql(self, compiler: Any, connection: Any) -> Any:
        return self.as_sql(compiler, connection, template="encode(%(expressions)s, 'hex')")


class JSONArrayContains(Func):
    """Whether a JSON array of strings has the string, on both databases."""

    output_field = BooleanField()

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        array, text = self.source_expressions
        array_sql, array_params = compiler.compile(array)
        text_sql, text_params = compiler.compile(text)
        sql = f"EXISTS (SELECT 1 FROM json_each({array_sql}) WHERE value = {text_sql})"  # noqa: S608 -- compiled parts
        return sql, [*array_params, *text_params]

    def as_postgresql(self, compiler: Any, connection: Any) -> Any:
        return self.as_sql(compiler, connection, function="jsonb_exists")


class Seconds(Func):
    """A whole number of seconds as a duration, which SQLite keeps in microseconds."""

    output_field = DurationField()

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        return self.as_sql(compiler, connection, template="(%(expressions)s * 1000000)")

    def as_postgresql(self, compiler: Any, connection: Any) -> Any:
        return self.as_sql(compiler, connection, template="(%(expressions)s * interval '1 second')")


def _newest_slot(prefix: str) -> QuerySet[Any]:
    """The newest place in the status lists of the JWTs that the token gets when it names no tenant, if there is one.

    By the expressions of the index `statusslot_once`, so it costs one look into it.
    """
    slots = apps.get_model("apitokens", "StatusSlot").objects
    scope_id = Coalesce(OuterRef(f"{prefix}tenant"), OuterRef(f"{prefix}pk"))
    own = slots.filter(Exact(Coalesce(F("tenant_id"), F("token_id")), scope_id), token_id=OuterRef(f"{prefix}pk"))
    return own.order_by("-generation").values(a=F("generation"), b=F("index"))[:1]


def standing(prefix: str = "") -> dict[str, Subquery | Exists]:
    """The annotations from which `policy.Standing` is read, for a query whose rows reach the token by `prefix`."""
    token_roles = apps.get_model("apitokens", "ApiTokenRole").objects.filter(token=OuterRef(f"{prefix}pk"))
    held = MembershipRole.objects.filter(membership=OuterRef(f"{prefix}membership"))
    return {
        "role_rows": JSONRows(
            token_roles.values(
                a=F("role__key"),
                b=F("role__name"),
                c=F("role__level"),
                d=F("role__permissions__key"),
                e=F("role__permissions__for_environment_tokens"),
                f=F("role__permissions__for_tenant_tokens"),
                g=F("role__permissions__for_personal_tokens"),
            )
        ),
        "holder_rows": JSONRows(
            held.values(
                a=F("role__key"),
                b=F("role__name"),
                c=F("role__level"),
                d=F("role__permissions__key"),
                e=F("role__permissions__for_personal_tokens"),
            )
        ),
        # What a vendor's owner or admin holds in the environment: everything that a personal token may have.
        "vendor_rows": JSONRows(
            Permission.objects.filter(
                environment=OuterRef(f"{prefix}environment"),
                environment__vendor__memberships=OuterRef(f"{prefix}vendor_membership"),
                for_personal_tokens=True,
            ).values(a=F("key"))
        ),
        "vendor_membership_is_listed": Exists(
            VendorMembershipEnvironment.objects.filter(
                vendor_membership=OuterRef(f"{prefix}vendor_membership"), environment=OuterRef(f"{prefix}environment")
            )
        ),
        "audience_rows": JSONRows(
            ApiIdentifier.objects.filter(environment=OuterRef(f"{prefix}environment")).values(
                a=F("uri"), b=F("is_default")
            )
        ),
        "slot_rows": JSONRows(_newest_slot(prefix)),
    }


def generation_without_tenant() -> CombinedExpression:
    """The sum of `policy.generation`, but for the tenant of the JWT, which need not be the token's."""
    of_owner = Coalesce(F("membership__generation"), F("vendor_membership__generation"), 0)
    return F("environment__generation") + F("token_type__generation") + F("generation") + of_owner


def uncarried_role() -> Exists:
    """Whether the token has a role that its type's list, if it has one, does not let it carry."""
    roles = apps.get_model("apitokens", "ApiTokenRole").objects
    listed = apps.get_model("apitokens", "TokenTypeRole").objects.filter(
        token_type=OuterRef(OuterRef("token_type")), role=OuterRef("role")
    )
    return Exists(roles.filter(~Exists(listed), token=OuterRef("pk"), token__token_type__carries_all_roles=False))


def suspicions() -> dict[str, Any]:
    """The annotations from which `flags.of` tells what an administrator should look at, beside those of `standing`.

    Of the people who made the token or were shown a secret that still works: have they left, may they still grant it?
    """
    live = apps.get_model("apitokens", "Secret").objects.filter(token=OuterRef("pk"), slot__isnull=False)
    vendor = OuterRef("environment__vendor")
    left_tenant = live.filter(
        shown_to__memberships__tenant=OuterRef("tenant"), shown_to__memberships__ended_at__isnull=False
    )
    still_member = Membership.objects.filter(
        tenant=OuterRef(OuterRef("tenant")), user=OuterRef("shown_to"), ended_at__isnull=True
    )
    left_vendor = live.filter(
        ~Exists(still_member),
        shown_to__vendor_memberships__vendor=vendor,
        shown_to__vendor_memberships__ended_at__isnull=False,
    )
    as_member = Membership.objects.filter(tenant=OuterRef("tenant"), user=OuterRef("creator"), ended_at__isnull=True)
    as_vendor = VendorMembership.objects.filter(vendor=vendor, user=OuterRef("creator"), ended_at__isnull=True)
    is_suspended = Q(suspended_at__isnull=False) | Q(user__is_active=False)
    listed = VendorMembershipEnvironment.objects.filter(
        vendor_membership=OuterRef("pk"), environment=OuterRef(OuterRef("environment"))
    )
    may_not_grant = Q(role=VendorMembership.Role.AUDITOR) | Q(Q(in_all_environments=False), ~Exists(listed))
    # By the membership's own tenant, which leads to the one row of that person: not through all of the tenant's roles.
    held = MembershipRole.objects.filter(
        membership__tenant=OuterRef("tenant"),
        membership__user=OuterRef("creator"),
        membership__ended_at__isnull=True,
    )
    return {
        "is_known_to_one_who_left": _either(Exists(left_tenant), Exists(left_vendor)),
        "is_creator_member": Exists(as_member),
        "is_creator_suspended": _either(
            Exists(as_member.filter(is_suspended)), Q(Exists(as_vendor.filter(is_suspended))) & ~Q(Exists(as_member))
        ),
        "is_creator_without_grant_at_vendor": Exists(as_vendor.filter(may_not_grant)),
        "creator_rows": JSONRows(held.values(a=F("role__level"), b=F("role__permissions__key"))),
        "has_uncarried_role": uncarried_role(),
    }


def _is_live(at: datetime | Given) -> Q:
    """Whether a version of a secret works at that moment."""
    return Q(slot__isnull=False) & (Q(expires_at__isnull=True) | Q(expires_at__gt=at))


def _either(one: Q | Exists, other: Q | Exists) -> ExpressionWrapper[Q]:
    return ExpressionWrapper(Q(one) | Q(other), output_field=BooleanField())


# What a token stands under: read with it, since every answer about it depends on them.
ABOVE = ("environment", "tenant", "token_type", "membership__user", "vendor_membership__user")


class ApiTokenQuerySet(QuerySet["ApiToken"]):
    def with_standing(self) -> Self:
        """Each token with all that decides what it may do now; `policy.Standing.of` reads it."""
        return self.select_related(*ABOVE).annotate(**standing())

    def with_secrets(self, *, at: datetime | Given) -> Self:
        """Each with `secret_rows`: [id, whether it works at that moment, digest in hex, pepper id] of every version.

        Those that were replaced too, so that one that is presented again is known for what it is (R7).
        """
        secrets = apps.get_model("apitokens", "Secret").objects
        return self.annotate(
            secret_rows=JSONRows(
                secrets.filter(token=OuterRef("pk"), digest__isnull=False).values(
                    a=F("id"),
                    b=ExpressionWrapper(_is_live(at), output_field=BooleanField()),
                    c=Hex("digest"),
                    d=F("pepper_id"),
                )
            )
        )

    def with_public_keys(self, *, at: datetime | Given) -> Self:
        """Each with `key_rows`: [id, whether it works at that moment, public key as JSON text] of every version."""
        secrets = apps.get_model("apitokens", "Secret").objects
        return self.annotate(
            key_rows=JSONRows(
                secrets.filter(token=OuterRef("pk"), public_key__isnull=False).values(
                    a=F("id"),
                    b=ExpressionWrapper(_is_live(at), output_field=BooleanField()),
                    c=Cast("public_key", TextField()),
                )
            )
        )

    def with_suspicions(self) -> Self:
        """Each with what an administrator should look at; `flags.of` reads it, together with the standing."""
        return self.annotate(**suspicions())

    def with_last_four(self) -> Self:
        """Each with the last four characters of its newest live secret: of two, the one without a deadline."""
        live = apps.get_model("apitokens", "Secret").objects.filter(token=OuterRef("pk"), slot__isnull=False)
        newest = live.order_by(F("expires_at").desc(nulls_first=True), "-created_at", "-id")
        return self.annotate(last_four=Subquery(newest.values("last_four")[:1]))

    def with_versions(self) -> Self:
        """Each with its secrets and public keys that hold a slot, as `held_versions`: one query for all of them."""
        held = apps.get_model("apitokens", "Secret").objects.filter(slot__isnull=False)
        return self.prefetch_related(Prefetch("secrets", held.order_by("id"), to_attr="held_versions"))

    def usable(self, *, at: datetime) -> Self:
        """Tokens that work at that moment (R5): all above them active, not expired, and something left to do (R4)."""
        has_begun = Q(not_before__isnull=True) | Q(not_before__lte=at)
        return self.not_expired(at=at).filter(has_begun, self._active(), self._has_audience(), self._has_power())

    def not_expired(self, *, at: datetime) -> Self:
        return self.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=at))

    @staticmethod
    def _has_audience() -> Q:
        """One of the API identifiers it is held to is left. The same on values: `policy.audiences_now`."""
        issuer = Concat(Value(Environment(slug="").issuer), F("environment__slug"), output_field=CharField())
        identifiers = ApiIdentifier.objects.filter(
            JSONArrayContains(OuterRef("audiences"), F("uri"), output_field=BooleanField()),
            environment=OuterRef("environment"),
        )
        return (
            Q(audiences=[])
            | Q(JSONArrayContains(F("audiences"), issuer, output_field=BooleanField()))
            | Q(Exists(identifiers))
        )

    def out_of_policy(self, *, at: datetime) -> Self:
        """Tokens that could not be made today as they are, by the present limits of their own types.

        The same on values: `policy.beyond_type`. What has expired can do nothing and is beyond nothing.
        """
        left = ExpressionWrapper(
            F("expires_at") - Value(at, output_field=DateTimeField()), output_field=DurationField()
        )
        return self.not_expired(at=at).filter(
            Q(expires_at__isnull=True, token_type__may_never_expire=False)
            | Q(
                Q(token_type__longest_lifetime__isnull=False),
                GreaterThan(left, Seconds(F("token_type__longest_lifetime"))),
            )
            | Q(token_type__requires_ip_allowlist=True, ip_allowlist=[])
            | Q(uncarried_role())
        )

    @staticmethod
    def _active() -> Q:
        of_tenant = Q(tenant__isnull=True) | Q(tenant__suspended_at__isnull=True, tenant__deleted_at__isnull=True)
        of_member = Q(membership__isnull=True) | Q(
            membership__suspended_at__isnull=True, membership__ended_at__isnull=True, membership__user__is_active=True
        )
        of_vendor_member = Q(vendor_membership__isnull=True) | Q(
            vendor_membership__suspended_at__isnull=True,
            vendor_membership__ended_at__isnull=True,
            vendor_membership__user__is_active=True,
        )
        return (
            Q(
                disabled_at__isnull=True,
                token_type__is_enabled=True,
                environment__suspended_at__isnull=True,
                environment__deleted_at__isnull=True,
            )
            & of_tenant
            & of_member
            & of_vendor_member
        )

    @staticmethod
    def _has_power() -> Q:
        """R4 as a condition: some permission is left. The same on values: `policy.effective_permissions`."""
        held_by_owner = RolePermission.objects.filter(
            role__membership_roles__membership=OuterRef("membership"),
        )
        granted = JSONArrayContains(OuterRef("granted"), F("permission__key"), output_field=BooleanField())
        through_roles = RolePermission.objects.filter(
            Q(role__level__lte=OuterRef("grantor_level")) | Q(role__token_roles__token__grantor_level__isnull=True),
            granted,
            role__token_roles__token=OuterRef("pk"),
        )
        also_held = Exists(
            RolePermission.objects.filter(
                role__membership_roles__membership=OuterRef(OuterRef("membership")), permission=OuterRef("permission")
            )
        )
        is_covered_vendor = Q(
            vendor_membership__role__in=[VendorMembership.Role.OWNER, VendorMembership.Role.ADMIN]
        ) & (
            Q(vendor_membership__in_all_environments=True)
            | Exists(
                VendorMembershipEnvironment.objects.filter(
                    vendor_membership=OuterRef("vendor_membership"), environment=OuterRef("environment")
                )
            )
        )
        for_personal = Permission.objects.filter(environment=OuterRef("environment"), for_personal_tokens=True)
        is_member = Q(membership__isnull=False)
        is_personal = Q(owner="user")
        return (
            Q(~is_personal, Q(granted_through="permissions"), ~Q(granted=[]))
            | Q(Q(~is_personal), Q(granted_through="roles"), Exists(through_roles))
            | Q(is_member, Q(granted_through="permissions"), Exists(held_by_owner.filter(granted)))
            | Q(is_member, Q(granted_through="roles"), Exists(through_roles.filter(also_held)))
            | Q(
                is_member,
                Q(granted_through="owner"),
                Exists(held_by_owner.filter(permission__for_personal_tokens=True)),
            )
            | Q(is_covered_vendor, Q(granted_through="permissions"), ~Q(granted=[]))
            | Q(is_covered_vendor, Q(granted_through="roles"), Exists(through_roles))
            | Q(is_covered_vendor, Q(granted_through="owner"), Exists(for_personal))
        )


def _by_id() -> ApiTokenQuerySet:
    found: ApiTokenQuerySet = apps.get_model("apitokens", "ApiToken").objects.filter(pk=Given("pk", UUIDField()))
    return found


# One row as it is now, by `pk`.
WITH_STANDING: Prepared[ApiToken] = Prepared(lambda: _by_id().with_standing())
# The same with all that pages and answers tell of it.
WITH_EVERYTHING: Prepared[ApiToken] = Prepared(
    lambda: _by_id().with_standing().with_suspicions().with_last_four().with_versions()
)


class PreparedPage:
    """The rows of a page, of which the ids are known, each with what that list shows."""

    def __init__(self, write: Callable[[ApiTokenQuerySet], ApiTokenQuerySet]) -> None:
        self._rows: Prepared[ApiToken] = Prepared(lambda: write(_by_ids()))

    def __call__(self, pks: Sequence[UUID]) -> list[ApiToken]:
        """In no order; up to PAGE_MAX. What is missing to as many is asked for twice: the SQL is the same for all."""
        if not pks:
            return []
        padded = [*pks, *[pks[-1]] * (PAGE_MAX - len(pks))]
        return self._rows.all(**{f"pk{number}": pk for number, pk in enumerate(padded)})


def _by_ids() -> ApiTokenQuerySet:
    ids: list[Any] = [Given(f"pk{number}", UUIDField()) for number in range(PAGE_MAX)]
    found: ApiTokenQuerySet = apps.get_model("apitokens", "ApiToken").objects.filter(pk__in=ids)
    return found


# By whether they have what to look at about them (`flags`): for people, and for programs.
SHOWN = {
    False: PreparedPage(lambda found: found.with_standing().with_last_four().select_related("creator")),
    True: PreparedPage(
        lambda found: found.with_standing().with_last_four().select_related("creator").with_suspicions()
    ),
}
TOLD = {
    False: PreparedPage(lambda found: found.with_standing().with_last_four().with_versions()),
    True: PreparedPage(lambda found: found.with_standing().with_last_four().with_versions().with_suspicions()),
}
