"""Environments: made, changed, stopped and ended by the vendor's people.

Making and ending one is an owner's, signed in: a token acts inside one environment and can neither make its like nor
take everything with it.
"""

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from django.db.models import F, OuterRef, QuerySet, Subquery
from django.utils.translation import gettext as _

from apitokens import ceiling, origins, setup
from apitokens.changing import AlreadySo, Taken, Unique, changing, check_version, record_change
from apitokens.models import Kind, Owner, TokenType
from apitokens.orders import InvalidField, clean_name
from apitokens.principals import Principal
from apitokens.services import Gone
from audit.services import Detail, Refusal
from audit.words import listed
from tenants.models import (
    PREFIX,
    SLUG,
    ApiIdentifier,
    Environment,
    Role,
    SlugKind,
    TakenSlug,
    VendorMembership,
    VendorMembershipEnvironment,
)
from tenants.policy import Grantor, check_holds, check_roles
from tenants.queries import held_roles, lock

# How long a deleted one can be restored; then housekeeping erases it.
HELD_FOR = timedelta(hours=72)
IDENTIFIERS_MAX, URI_MAX = 20, 255
# Seconds within which somebody may be asked again who they are; 0 asks never.
REAUTHENTICATE_AFTER = range(60, 24 * 3600 + 1)
# RFC 8707 section 2: an absolute URI without a fragment; of the characters of RFC 3986 section 2.
ABSOLUTE_URI = re.compile(r"[a-z][a-z0-9+.-]*:[!$-;=?-\[\]_a-z~]+")
# How PostgreSQL and SQLite name them in their errors.
NAME_TAKEN = ("environment_name_unique_in_vendor",)
SLUG_TAKEN = (
    "tenants_environment_slug",
    "tenants_environment.slug",
    "takenslug_never_reused",
    "tenants_takenslug.kind",
)
PREFIX_TAKEN = ("tenants_environment_token_prefix", "tenants_environment.token_prefix")


class OwnersOnly(Refusal):
    code = "owners_only"

    def __init__(self) -> None:
        super().__init__(_("Only an owner of the vendor can do this, signed in as themselves."))


class InsideOne(Refusal):
    """What spans environments is for people."""

    code = "out_of_reach"

    def __init__(self) -> None:
        super().__init__(_("A token acts inside its own environment: an owner of the vendor does this, signed in."))


class OwnersAndAdminsOnly(Refusal):
    code = "owners_and_admins_only"

    def __init__(self) -> None:
        super().__init__(_("Only an owner or an admin of the vendor can loosen this, signed in as themselves."))


class TooLate(Refusal):
    code = "too_late"
    is_denial = False

    def __init__(self, name: str) -> None:
        super().__init__(_("%(name)s was deleted too long ago to be restored: it is being erased.") % {"name": name})


class LastEnvironment(Refusal):
    """Everything a vendor does begins in an environment: without one nobody could make another."""

    code = "last_environment"
    is_denial = False

    def __init__(self) -> None:
        super().__init__(_("This is the vendor's last environment. Make another one before you delete it."))


def create(
    *,
    by: Principal,
    name: str,
    slug: str,
    audience: str,
    at: datetime,
    token_prefix: str = "",
    colour: str = Environment.Colour.BLUE,
    signing_algorithm: str = Environment.Algorithm.ES256,
) -> Environment:
    """A new environment of the vendor for whom `by` acts, with what every one is born with (`setup`).

    Without a prefix its tokens are called after its slug.
    """
    asked = {"name": name, "slug": slug, "token_prefix": token_prefix}
    unique = _taken(name, slug, token_prefix)
    with changing(by, "environment.created", target_kind="environment", asked=asked, unique=unique):
        ceiling.check_environment_wide(by, by.environment)
        if by.token is not None:
            raise InsideOne
        lock(by.environment.vendor)
        # The new one is no part of the one from which it is made.
        by, grantor = ceiling.grantor_of(by, at=at, even_if_deleted=True)
        check_holds(grantor, "environments:create")
        check_owner(by)
        name, slug = clean_name(name), clean_slug(slug)
        # The prefix that is made from it is taken too, and the database would speak of that one.
        if TakenSlug.objects.filter(kind=SlugKind.ENVIRONMENT, slug=slug).exists():
            raise unique[SLUG_TAKEN]
        environment = setup.create_environment(
            actor=by.actor,
            vendor=by.environment.vendor,
            name=name,
            slug=slug,
            token_prefix=_clean_prefix(token_prefix) if token_prefix else _prefix_of(slug),
            audience=clean_uri("audience", audience),
            colour=_clean_colour(colour),
            signing_algorithm=_clean_algorithm(signing_algorithm),
            at=at,
        )
        member = by.vendor_membership
        if member is not None and not member.in_all_environments:
            VendorMembershipEnvironment.objects.create(
                vendor_membership=member, environment=environment, vendor_id=member.vendor_id
            )
    return environment


def edit(
    *,
    by: Principal,
    environment: Environment,
    at: datetime,
    name: str | None = None,
    colour: str | None = None,
    strict_ceiling: bool | None = None,
    api_identifiers: Sequence[str] | None = None,
    default_role: str | None = None,
    signing_algorithm: str | None = None,
    reauthenticate_after: int | None = None,
    embedding_origins: Sequence[str] | None = None,
    expected: str | Sequence[str] | None = None,
) -> Environment:
    """Change what is given and leave the rest.

    `api_identifiers` are all of them, the default one first. `default_role` is the key or id of the role that the
    client born with each new tenant gets; empty for no such client. `signing_algorithm` is that of keys to come: the
    one that signs goes on until it is rotated. `reauthenticate_after` is in seconds; 0 asks never. `embedding_origins`
    are all of them.
    """
    with _changing(by, "environment.edited", environment, unique=_taken(name or "")):
        by, environment, grantor = locked(by, environment, at)
        check_holds(grantor, "environments:create")
        before = snapshot(environment)
        check_version(expected, before)
        if name is not None:
            environment.name = clean_name(name)
        if colour is not None:
            environment.colour = _clean_colour(colour)
        if strict_ceiling is not None:
            _check_may_loosen(environment, grantor, strict_ceiling)
            environment.strict_ceiling = strict_ceiling
        if signing_algorithm is not None:
            environment.signing_algorithm = _clean_algorithm(signing_algorithm)
        if reauthenticate_after is not None:
            _choose_reauthentication(by, environment, grantor, reauthenticate_after, at)
        if embedding_origins is not None:
            environment.embedding_origins = origins.clean_all("embedding_origins", embedding_origins)
        if api_identifiers is not None:
            _identify(environment, api_identifiers)
        if default_role is not None:
            _choose_default_role(environment, grantor, default_role)
        environment.save(
            update_fields=[
                "name",
                "colour",
                "strict_ceiling",
                "signing_algorithm",
                "reauthenticate_after",
                "embedding_origins",
            ]
        )
        after = snapshot(environment)
        if after != before:
            _record(by, "environment.edited", environment, before, after)
    return environment


def suspend(*, by: Principal, environment: Environment, at: datetime) -> Environment:
    """Nothing works in it until it is reinstated; JWTs issued until now stay dead for good (R5)."""
    with _changing(by, "environment.suspended", environment):
        by, environment, grantor = locked(by, environment, at)
        check_holds(grantor, "environments:delete")
        if environment.suspended_at is not None:
            raise AlreadySo(_("%(name)s is suspended already.") % {"name": environment.name})
        return _stop(by, "environment.suspended", environment, suspended_at=at)


def reinstate(*, by: Principal, environment: Environment, at: datetime) -> Environment:
    with _changing(by, "environment.reinstated", environment):
        by, environment, grantor = locked(by, environment, at)
        check_holds(grantor, "environments:create")
        if environment.suspended_at is None:
            raise AlreadySo(_("%(name)s is not suspended.") % {"name": environment.name})
        return _resume(by, "environment.reinstated", environment, "suspended_at")


def delete(*, by: Principal, environment: Environment, typed_name: str, at: datetime) -> Environment:
    """It stops at once, and is erased once it has been on hold for `HELD_FOR`."""
    with _changing(by, "environment.deleted", environment):
        lock(environment.vendor)
        by, environment, grantor = locked(by, environment, at, even_if_deleted=True)
        check_holds(grantor, "environments:delete")
        check_owner(by)
        if environment.deleted_at is not None:
            raise AlreadySo(_("%(name)s is deleted already.") % {"name": environment.name})
        check_typed_name(typed_name, environment.name)
        others = Environment.objects.filter(vendor=environment.vendor_id, deleted_at__isnull=True)
        if not others.exclude(pk=environment.pk).exists():
            raise LastEnvironment
        return _stop(by, "environment.deleted", environment, deleted_at=at)


def restore(*, by: Principal, environment: Environment, at: datetime) -> Environment:
    """Within the hold: as it was, suspended if it was; JWTs issued before stay dead."""
    with _changing(by, "environment.restored", environment):
        by, environment, grantor = locked(by, environment, at, even_if_deleted=True)
        check_holds(grantor, "environments:create")
        check_owner(by)
        if environment.deleted_at is None:
            raise AlreadySo(_("%(name)s is not deleted.") % {"name": environment.name})
        if not can_be_restored(environment, at):
            raise TooLate(environment.name)
        return _resume(by, "environment.restored", environment, "deleted_at")


def can_be_restored(environment: Environment, at: datetime) -> bool:
    return environment.deleted_at is not None and at < environment.deleted_at + HELD_FOR


def snapshot(environment: Environment) -> dict[str, object]:
    """What its settings are; also what an ETag and a form's version stand for."""
    role = default_role_of(environment)
    return {
        "name": environment.name,
        "colour": environment.colour,
        "strict_ceiling": environment.strict_ceiling,
        "reauthenticate_after": environment.reauthenticate_after,
        "signing_algorithm": environment.signing_algorithm,
        "embedding_origins": environment.embedding_origins,
        "api_identifiers": identifiers_of(environment),
        "default_role": role.key if role else "",
        "suspended_at": environment.suspended_at.isoformat() if environment.suspended_at else None,
        "deleted_at": environment.deleted_at.isoformat() if environment.deleted_at else None,
    }


def identifiers_of(environment: Environment) -> list[str]:
    """The default one first."""
    return list(environment.api_identifiers.order_by("-is_default", "uri").values_list("uri", flat=True))


def described(rows: QuerySet[Environment]) -> QuerySet[Environment]:
    """Each with its API identifiers and `default_role_key`, in two queries however many there are."""
    role = Role.objects.filter(environment=OuterRef("pk"), is_for_new_tenants=True)
    return rows.prefetch_related("api_identifiers").annotate(default_role_key=Subquery(role.values("key")[:1]))


def default_role_of(environment: Environment) -> Role | None:
    """The role of the client that each new tenant is born with; None: there is no such client."""
    return Role.objects.filter(environment=environment, is_for_new_tenants=True).first()


def default_client_type(environment: Environment, role: Role) -> TokenType | None:
    """The token type of such a client, while it lets one exist that has the role and no IP allowlist."""
    token_types = TokenType.objects.filter(
        environment=environment,
        owner=Owner.TENANT,
        kind=Kind.CLIENT_CREDENTIALS,
        is_enabled=True,
        requires_ip_allowlist=False,
    )
    token_type = token_types.exclude(quota=0).first()
    if token_type is None:
        return None
    carries = token_type.carries_all_roles or token_type.token_type_roles.filter(role=role).exists()
    return token_type if carries and role.permissions.filter(for_tenant_tokens=True).exists() else None


def check_typed_name(typed: str, name: str) -> None:
    """Whoever ends something types its name: a click that went astray ends nothing; raises InvalidField."""
    if typed.strip() != name:
        raise InvalidField(
            "name", _("Type its name exactly, %(name)s, to confirm that this is the one you mean.") % {"name": name}
        )


def clean_slug(slug: str) -> str:
    """Raises InvalidField for what can't stand in an address."""
    if not re.fullmatch(SLUG, slug):
        raise InvalidField(
            "slug", _("Use up to 63 small letters, digits and hyphens; begin and end with a letter or a digit.")
        )
    return slug


def clean_uri(field: str, uri: str) -> str:
    """Raises InvalidField for what is no absolute URI without a fragment (RFC 8707 section 2)."""
    uri = uri.strip()
    if not ABSOLUTE_URI.fullmatch(uri):
        raise InvalidField(
            field, _("%(uri)s is not an absolute URI such as https://api.example.com.") % {"uri": repr(uri[:60])}
        )
    if len(uri) > URI_MAX:
        raise InvalidField(field, _("A URI has at most %(most)s characters here.") % {"most": URI_MAX})
    return uri


def _clean_prefix(prefix: str) -> str:
    if not re.fullmatch(PREFIX, prefix):
        raise InvalidField("token_prefix", _("Use 2 to 32 small letters, digits and underscores."))
    return prefix


def _prefix_of(slug: str) -> str:
    """The prefix of an environment that was given none; raises InvalidField for a slug that makes none."""
    prefix = slug.replace("-", "_")[:32]
    if not re.fullmatch(PREFIX, prefix):
        raise InvalidField(
            "slug",
            _("%(slug)s is too short to begin tokens with: take a longer one, or give a prefix.") % {"slug": slug},
        )
    return prefix


def _clean_colour(colour: str) -> str:
    if colour not in Environment.Colour.values:
        raise InvalidField("colour", _("Colour is one of %(values)s.") % {"values": listed(Environment.Colour.values)})
    return colour


def _clean_algorithm(algorithm: str) -> str:
    if algorithm not in Environment.Algorithm.values:
        raise InvalidField(
            "signing_algorithm",
            _("The algorithm is one of %(values)s.") % {"values": listed(Environment.Algorithm.values)},
        )
    return algorithm


def _taken(name: str, slug: str = "", token_prefix: str = "") -> Unique:
    same_prefix = _("Another environment's tokens begin like this: choose another prefix.")
    if slug and not token_prefix:
        same_prefix = _(
            "Another environment's tokens begin as those of %(slug)s would: give this one a prefix of its own."
        ) % {"slug": slug}
    return {
        NAME_TAKEN: Taken(
            "name",
            _("The vendor has an environment named %(name)s already: choose another name.") % {"name": name.strip()},
        ),
        SLUG_TAKEN: Taken(
            "slug",
            _("%(slug)s is or was in use, and an address is never used again: choose another one.") % {"slug": slug},
        ),
        PREFIX_TAKEN: Taken("token_prefix", same_prefix),
    }


def _changing(
    by: Principal, verb: str, environment: Environment, *, unique: Unique | None = None
) -> AbstractContextManager[None]:
    return changing(by, verb, target_kind="environment", target_id=environment.id, unique=unique)


def locked(
    by: Principal, environment: Environment, at: datetime, *, even_if_deleted: bool = False
) -> tuple[Principal, Environment, Grantor]:
    """Who asks, the environment, held exclusively, and the grantor, as they are now."""
    ceiling.check_environment_wide(by, environment)
    lock(environment)
    by, grantor = ceiling.grantor_of(by, at=at, even_if_deleted=even_if_deleted)
    now = Environment.objects.select_related("vendor").filter(pk=environment.pk).first()
    if now is None:
        raise Gone
    return by, now, grantor


def check_owner(by: Principal) -> None:
    """Asked under the lock on the membership; raises OwnersOnly."""
    member = by.vendor_membership
    is_owner = member is not None and (
        VendorMembership.objects.active().filter(pk=member.pk, role=VendorMembership.Role.OWNER).exists()
    )
    if not by.is_system and not is_owner:
        raise OwnersOnly


def _check_may_loosen(environment: Environment, grantor: Grantor, strict: bool) -> None:
    """Without the strict ceiling a token could hand out what it lacks: letting it do so is granting (R3)."""
    if environment.strict_ceiling and not strict and not grantor.is_unlimited:
        raise OwnersAndAdminsOnly


def _choose_reauthentication(
    by: Principal, environment: Environment, grantor: Grantor, seconds: int, at: datetime
) -> None:
    """Asking people later, or never, is for people who have just been asked: no token lifts what guards it."""
    if seconds and seconds not in REAUTHENTICATE_AFTER:
        raise InvalidField(
            "reauthenticate_after",
            _("Use %(least)s seconds to %(most)s, or 0 to ask nobody again.")
            % {"least": REAUTHENTICATE_AFTER.start, "most": REAUTHENTICATE_AFTER.stop - 1},
        )
    now = environment.reauthenticate_after
    if now and (not seconds or seconds > now):
        if not grantor.is_unlimited:
            raise OwnersAndAdminsOnly
        ceiling.check_confirmed(by, at=at)
    environment.reauthenticate_after = seconds


def _identify(environment: Environment, uris: Sequence[str]) -> None:
    wanted = list(dict.fromkeys(clean_uri("api_identifiers", uri) for uri in uris))
    if not wanted:
        raise InvalidField("api_identifiers", _("An environment needs at least one: the audience of its JWTs."))
    if len(wanted) > IDENTIFIERS_MAX:
        raise InvalidField("api_identifiers", _("At most %(most)s can be listed.") % {"most": IDENTIFIERS_MAX})
    rows = environment.api_identifiers.all()
    rows.exclude(uri__in=wanted).delete()
    rows.update(is_default=False)
    known = set(rows.values_list("uri", flat=True))
    ApiIdentifier.objects.bulk_create(
        ApiIdentifier(environment=environment, uri=uri) for uri in wanted if uri not in known
    )
    rows.filter(uri=wanted[0]).update(is_default=True)


def _choose_default_role(environment: Environment, grantor: Grantor, name: str) -> None:
    """Every tenant to come gets a client with it: choosing it is granting (R3)."""
    roles = Role.objects.filter(environment=environment, tenant__isnull=True)
    found = [role for role in roles if name in {role.key, str(role.id)}] if name else []
    if name and not found:
        raise InvalidField("default_role", _("Unknown role: %(name)s.") % {"name": name[:100]})
    for role in roles.filter(is_for_new_tenants=True).order_by("pk"):
        lock(role)
    if not found:
        roles.update(is_for_new_tenants=False)
        return
    (role,) = found
    lock(role)
    check_roles(grantor, held_roles([role]).values(), strict=environment.strict_ceiling)
    if default_client_type(environment, role) is None:
        raise InvalidField(
            "default_role",
            _(
                "A tenant's client can't have the role %(name)s: its token type is switched off, needs an IP allowlist "
                "or doesn't carry the role, or the role holds nothing that a tenant's token may have."
            )
            % {"name": role.name},
        )
    roles.exclude(pk=role.pk).update(is_for_new_tenants=False)
    Role.objects.filter(pk=role.pk).update(is_for_new_tenants=True)


def _stop(by: Principal, verb: str, environment: Environment, **changed: datetime) -> Environment:
    before = snapshot(environment)
    Environment.objects.filter(pk=environment.pk).update(**changed, generation=F("generation") + 1)
    return _changed(by, verb, environment, before)


def _resume(by: Principal, verb: str, environment: Environment, column: str) -> Environment:
    before = snapshot(environment)
    Environment.objects.filter(pk=environment.pk).update(**{column: None})
    return _changed(by, verb, environment, before)


def _changed(by: Principal, verb: str, environment: Environment, before: Detail) -> Environment:
    environment.refresh_from_db()
    _record(by, verb, environment, before, snapshot(environment))
    return environment


def _record(by: Principal, verb: str, environment: Environment, before: Detail, after: Detail) -> None:
    record_change(by, verb, target_kind="environment", target_id=environment.id, before=before, after=after)
