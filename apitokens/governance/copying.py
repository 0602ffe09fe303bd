"""The configuration of one environment, copied to another of the same vendor: permissions, roles and token types.

What is here already is changed, what is missing is added, and nothing here is removed. Never tokens, tenants, people,
keys or API identifiers: an environment is a hard wall, and only what was decided about it is carried over.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from django.db.models import Count, F, QuerySet
from django.utils.translation import gettext as _

from apitokens import ceiling
from apitokens.changing import Taken, Unique, changing, check_version, record_change, version_of
from apitokens.governance import permissions, roles
from apitokens.governance.permissions import MOST_PERMISSIONS
from apitokens.governance.roles import MOST_ROLES
from apitokens.models import ApiToken, ApiTokenRole, TokenType, TokenTypeRole
from apitokens.orders import InvalidField
from apitokens.principals import Principal
from apitokens.services import Gone
from apitokens.setup import hold
from audit.services import Refusal
from tenants.models import Environment, MembershipRole, Permission, Role, RolePermission, VendorMembership
from tenants.policy import check_holds
from tenants.queries import lock

PERMISSION_FLAGS = ("for_environment_tokens", "for_tenant_tokens", "for_personal_tokens")
TYPE_SETTINGS = (
    "is_enabled", "carries_all_roles", "default_lifetime", "longest_lifetime", "may_never_expire", "jwt_lifetime",
    "longest_overlap", "requires_ip_allowlist", "quota", "accepts_basic", "may_make_tokens",
)  # fmt: skip
State = dict[str, dict[str, Any]]
# By key: how many tokens and how many members of the target it concerns.
Reach = dict[str, tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing, by its key, as it is here (`before`; None: missing) and there (`after`; None: only here).

    `tokens` and `members` are how many here have to do with it.
    """

    kind: str
    key: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    tokens: int = 0
    members: int = 0

    @property
    def change(self) -> str:
        if self.before is None:
            return "added"
        return "only_here" if self.after is None else "changed"

    @property
    def changed(self) -> list[tuple[str, Any, Any]]:
        """(what, before, after) of what differs; of something new, all of it."""
        after, before = self.after or {}, self.before or {}
        return [(name, before.get(name), after[name]) for name in after if after[name] != before.get(name)]

    @property
    def effects(self) -> list[str]:
        """What it does to those who are here: nothing unless it changes what they have."""
        if self.before is None or self.after is None:
            return []
        if self.kind == "role":
            lost = set(self.before["permissions"]) - set(self.after["permissions"])
            gained = set(self.after["permissions"]) - set(self.before["permissions"])
            found = {
                "members_and_tokens_lose": bool(lost),
                "members_gain": bool(gained),
                "tokens_granted_below_lose_it": self.after["level"] > self.before["level"],
            }
        elif self.kind == "token_type":
            found = {
                "tokens_stop": self.before["is_enabled"] and not self.after["is_enabled"],
                "tokens_resume": self.after["is_enabled"] and not self.before["is_enabled"],
                "binds_new_tokens": any(name != "is_enabled" for name, _, _ in self.changed),
            }
        else:
            found = {"binds_new_tokens": any(name != "description" for name, _, _ in self.changed)}
        return [effect for effect, holds in found.items() if holds]


@dataclass(frozen=True, kw_only=True)
class Diff:
    """`state` is all that was compared: what a version of the diff stands for."""

    source: Environment
    target: Environment
    differences: tuple[Difference, ...]
    state: Mapping[str, object]

    @property
    def applied(self) -> tuple[Difference, ...]:
        """What copying would do."""
        return tuple(each for each in self.differences if each.change != "only_here")

    @property
    def version(self) -> str:
        return version_of(self.state)


class NotOfBoth(Refusal):
    """A token acts inside one environment, and some people in one alone."""

    code = "out_of_reach"

    def __init__(self) -> None:
        super().__init__(_("Copying is for an owner or an admin of both environments, signed in as themselves."))


class NothingToCopy(InvalidField):
    code = "nothing_to_copy"

    def __init__(self) -> None:
        super().__init__("from", _("Everything that would be copied is the same here already."))


def compare(source: Environment, target: Environment) -> Diff:
    """What copying would change in the target, one kind after the other."""
    differences: list[Difference] = []
    state: dict[str, object] = {"source": str(source.id), "target": str(target.id)}
    for kind, read, reach in KINDS:
        here, there, reached = read(target), read(source), reach(target)
        state[kind] = [here, there]
        for key in sorted(here.keys() | there.keys()):
            if here.get(key) != there.get(key):
                tokens, members = reached.get(key, (0, 0))
                differences.append(
                    Difference(
                        kind=kind, key=key, before=here.get(key), after=there.get(key), tokens=tokens, members=members
                    )
                )
    return Diff(source=source, target=target, differences=tuple(differences), state=state)


def check_covers_source(by: Principal, source: Environment) -> None:
    """To read another environment is for a person who may change it too; raises NotOfBoth."""
    member = by.vendor_membership
    may = member is not None and (
        VendorMembership.objects.active()
        .covering(source)
        .filter(pk=member.pk, role__in=[VendorMembership.Role.OWNER, VendorMembership.Role.ADMIN])
        .exists()
    )
    if not may:
        raise NotOfBoth


def copy(*, by: Principal, source: Environment, at: datetime, expected: str | Sequence[str] | None = None) -> Diff:
    """All of it or nothing, as one event. `expected` is the version of the diff that was looked at."""
    target, verb = by.environment, "environment.configuration_copied"
    asked = {"name": target.name, "from": source.slug}
    with changing(by, verb, target_kind="environment", target_id=target.id, asked=asked, unique=_taken()):
        ceiling.check_environment_wide(by, target)
        if source.pk == target.pk:
            raise InvalidField("from", _("Choose another environment than this one."))
        # In the order of their ids, so that two copies in opposite directions don't wait for each other.
        for environment in sorted((source, target), key=lambda row: row.pk):
            lock(environment)
        for token_type in target.token_types.order_by("pk"):
            lock(token_type)
        by, grantor = ceiling.grantor_of(by, at=at)
        check_holds(grantor, "environments:create")
        check_covers_source(by, source)
        if Environment.objects.filter(pk__in=[source.pk, target.pk], deleted_at__isnull=True).count() != len(
            {source.pk, target.pk}
        ):
            raise Gone
        for role in Role.objects.filter(environment=target, tenant__isnull=True).order_by("pk"):
            lock(role)
        diff = compare(source, target)
        check_version(expected, diff.state)
        if not diff.applied:
            raise NothingToCopy
        for kind, apply in APPLIED:
            apply(target, [each for each in diff.applied if each.kind == kind])
        _check_not_too_many(target)
        before, after = ({"from": source.slug, **_described(diff.applied, side)} for side in ("before", "after"))
        record_change(by, verb, target_kind="environment", target_id=target.id, before=before, after=after)
    return diff


def _check_not_too_many(target: Environment) -> None:
    for too_many, rows, most in (
        (roles.too_many, target.roles.filter(tenant__isnull=True), MOST_ROLES),
        (permissions.too_many, target.permissions.all(), MOST_PERMISSIONS),
    ):
        if rows.count() > most:
            raise too_many()


def _taken() -> Unique:
    same_name = _("Two roles would have one name: rename the role here that is called like another one there.")
    return {("role_name_unique",): Taken("from", same_name)}


def _settings(rows: QuerySet[Any]) -> Iterable[dict[str, Any]]:
    """The rows by the names of their columns."""
    return rows.values()


def _permissions(environment: Environment) -> State:
    """The vendor's own; the built-in ones are the same everywhere."""
    rows = Permission.objects.filter(environment=environment, is_built_in=False)
    return {row["key"]: {name: row[name] for name in ("description", *PERMISSION_FLAGS)} for row in _settings(rows)}


def _roles(environment: Environment) -> State:
    """The vendor's, for all tenants; a tenant's own stay with it."""
    rows = Role.objects.filter(environment=environment, tenant__isnull=True)
    found: State = {row.key: {"name": row.name, "level": row.level, "permissions": []} for row in rows}
    held = RolePermission.objects.filter(role__in=rows).order_by("permission__key")
    for role, permission in held.values_list("role__key", "permission__key"):
        found[role]["permissions"].append(permission)
    return found


def _token_types(environment: Environment) -> State:
    rows = TokenType.objects.filter(environment=environment)
    found = {
        f"{row['owner']} {row['kind']}": {**{name: row[name] for name in TYPE_SETTINGS}, "roles": []}
        for row in _settings(rows)
    }
    carried = TokenTypeRole.objects.filter(token_type__in=rows, role__tenant__isnull=True).order_by("role__key")
    for owner, kind, role in carried.values_list("owner", "kind", "role__key"):
        found[f"{owner} {kind}"]["roles"].append(role)
    return found


def _reach_of_permissions(environment: Environment) -> Reach:
    return {}


def _reach_of_roles(environment: Environment) -> Reach:
    of_environment = {"role__environment": environment, "role__tenant__isnull": True}
    tokens = dict(ApiTokenRole.objects.filter(**of_environment).values_list("role__key").annotate(Count("pk")))
    members = dict(MembershipRole.objects.filter(**of_environment).values_list("role__key").annotate(Count("pk")))
    return {key: (tokens.get(key, 0), members.get(key, 0)) for key in tokens.keys() | members.keys()}


def _reach_of_token_types(environment: Environment) -> Reach:
    rows = ApiToken.objects.filter(environment=environment).values_list("owner", "kind").annotate(Count("pk"))
    return {f"{owner} {kind}": (count, 0) for owner, kind, count in rows}


def _apply_permissions(target: Environment, differences: Iterable[Difference]) -> None:
    for each in differences:
        Permission.objects.update_or_create(environment=target, key=each.key, defaults=dict(each.after or {}))


def _apply_roles(target: Environment, differences: list[Difference]) -> None:
    roles = {role.key: role for role in Role.objects.filter(environment=target, tenant__isnull=True)}
    # Two roles may have swapped their names: both let go of the old one first.
    for each in differences:
        if each.key in roles:
            Role.objects.filter(pk=roles[each.key].pk).update(name=str(uuid4()))
    for each in differences:
        after = dict(each.after or {})
        fields = {"name": after["name"], "level": after["level"]}
        role, _ = Role.objects.update_or_create(environment=target, tenant=None, key=each.key, defaults=fields)
        role.role_permissions.exclude(permission__key__in=after["permissions"]).delete()
        held = set(role.role_permissions.values_list("permission__key", flat=True))
        hold(role, set(after["permissions"]) - held)


def _apply_token_types(target: Environment, differences: Iterable[Difference]) -> None:
    roles = {role.key: role for role in Role.objects.filter(environment=target, tenant__isnull=True)}
    for each in differences:
        owner, kind = each.key.split()
        settings = dict(each.after or {})
        carried = settings.pop("roles")
        cell = TokenType.objects.filter(environment=target, owner=owner, kind=kind)
        if "tokens_stop" in each.effects:
            cell.update(generation=F("generation") + 1)
        cell.update(**settings)
        for token_type in cell:
            # Roles of tenants' own stay as they are: there are none of them in the other environment.
            token_type.token_type_roles.filter(role__tenant__isnull=True).delete()
            TokenTypeRole.objects.bulk_create(
                TokenTypeRole(token_type=token_type, role=roles[key], environment=target, owner=owner, kind=kind)
                for key in carried
            )


def _described(differences: Iterable[Difference], side: str) -> dict[str, object]:
    """{kind: {key: what it was or has become}}, for the record."""
    described: dict[str, dict[str, object]] = {kind: {} for kind, _, _ in KINDS}
    for each in differences:
        described[each.kind][each.key] = getattr(each, side)
    return {kind: of_kind for kind, of_kind in described.items() if of_kind}


# In the order in which they depend on each other: roles hold permissions, token types carry roles.
KINDS: tuple[tuple[str, Callable[[Environment], State], Callable[[Environment], Reach]], ...] = (
    ("permission", _permissions, _reach_of_permissions),
    ("role", _roles, _reach_of_roles),
    ("token_type", _token_types, _reach_of_token_types),
)
APPLIED: tuple[tuple[str, Callable[[Environment, list[Difference]], None]], ...] = (
    ("permission", _apply_permissions),
    ("role", _apply_roles),
    ("token_type", _apply_token_types),
)
