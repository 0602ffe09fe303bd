"""Why a token may do something or not: the layer that decides, in words, and since when, from the record."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from uuid import UUID

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from apitokens import policy
from apitokens.ceiling import GRANTABLE
from apitokens.models import ApiToken, Owner
from apitokens.policy import Layer, State
from audit.models import AuditEvent, Outcome
from tenants.models import MembershipRole, Permission

KEY_MAX = 128
# How far back in the trail of the token, its roles and its owner a date is looked for.
LOOKED_AT = 300
VERBS = (
    "apitoken.issued",
    "apitoken.edited",
    "apitoken.role_deleted",
    "apitoken.permission_deleted",
    "role.created",
    "role.edited",
    "membership.roles_changed",
)


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """`because` is for people; `since` is when that came about, None where the record does not say."""

    permission: str
    description: str
    is_built_in: bool
    allowed: bool
    layer: Layer
    because: str
    since: datetime | None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Of one token, as it is at a moment. `unusable` says why it works for nothing at all, empty if it does."""

    state: State
    unusable: str
    permissions: tuple[Explanation, ...]

    def in_layers(self, *layers: Layer) -> list[Explanation]:
        return [each for each in self.permissions if each.layer in layers]


def explain(token: ApiToken, *, at: datetime, permission: str | None = None) -> Answer:
    """About one permission, or about all that were granted to it or that its roles or its owner hold (`with_standing`).

    The vendor's own come first. `allowed` is whether a request that needs the permission would pass at this moment.
    """
    standing = policy.Standing.of(token)
    now = policy.effective_permissions(standing)
    state = policy.state(token, now, at=at)
    keys = [permission] if permission is not None else _that_matter(standing)
    rows = {row.key: row for row in Permission.objects.filter(environment=token.environment_id, key__in=keys)}
    known = {key: getattr(row, GRANTABLE[Owner(token.owner)]) for key, row in rows.items()}
    trail = _Trail(token, standing)
    explained = []
    for key in sorted(keys, key=lambda key: (key in rows and rows[key].is_built_in, key)):
        layer = policy.explain(standing, key, known=known)
        if layer == Layer.LEFT_OUT and trail.gained(key):
            layer = Layer.NOT_TAKEN_OVER
        because, since = _words(layer, key, trail)
        if layer == Layer.GRANTED and state != State.USABLE:
            layer = Layer.TOKEN_NOT_USABLE
            because, since = _unusable(token, state)
        row = rows.get(key)
        explained.append(
            Explanation(
                permission=key,
                description=row.meaning if row else "",
                is_built_in=bool(row and row.is_built_in),
                allowed=layer == Layer.GRANTED,
                layer=layer,
                because=because,
                since=since,
            )
        )
    unusable = "" if state in {State.USABLE, State.POWERLESS} else _unusable(token, state)[0]
    return Answer(state=state, unusable=unusable, permissions=tuple(explained))


def _that_matter(standing: policy.Standing) -> list[str]:
    """Bounded by the permissions of the environment."""
    keys = standing.granted | standing.followable | policy.grantor_with(standing.roles).permissions
    return sorted(keys | (standing.holder.permissions if standing.holder else frozenset()))


class _Trail:
    """What the record says of the token, its roles and its owner; read once, and only when a date is asked for."""

    def __init__(self, token: ApiToken, standing: policy.Standing) -> None:
        self.token = token
        self.standing = standing

    @cached_property
    def role_ids(self) -> dict[UUID, str]:
        """The token's own, by id, with their keys."""
        return dict(self.token.roles.values_list("pk", "key"))

    @cached_property
    def _events(self) -> list[AuditEvent]:
        """Newest first."""
        token = self.token
        owners = MembershipRole.objects.filter(membership=token.membership_id).values_list("role_id", flat=True)
        about = {token.id, *self.role_ids, *owners} | ({token.membership_id} if token.membership_id else set())
        found = AuditEvent.objects.filter(target_id__in=about, verb__in=VERBS, outcome=Outcome.DONE)
        return list(found.order_by("-at", "-id")[:LOOKED_AT])

    def _of(self, targets: Iterable[UUID | None], *verbs: str) -> list[AuditEvent]:
        wanted = set(targets)
        return [event for event in self._events if event.target_id in wanted and event.verb in verbs]

    @cached_property
    def _granted(self) -> tuple[datetime, set[str]]:
        """When it was last granted something, and through which roles."""
        for event in self._of([self.token.id], "apitoken.issued", "apitoken.edited"):
            before, after = event.before or {}, event.after or {}
            if any(before.get(part) != after.get(part) for part in ("granted", "roles", "granted_through")):
                return event.at, set(after.get("roles", []))
        return self.token.created_at, set(self.role_ids.values())

    def gained(self, key: str) -> tuple[str, datetime | None] | None:
        """The name of a role that got the permission, or came to the token, after the grant; and when."""
        granted_at, granted_roles = self._granted
        names = {role.key: role.name for role in self.standing.roles if key in role.permissions}
        for pk, role_key in self.role_ids.items():
            if role_key not in names:
                continue
            if role_key not in granted_roles:
                given = self._of([self.token.id], "apitoken.role_deleted")
                return names[role_key], given[0].at if given else None
            for event in self._of([pk], "role.edited"):
                if event.at > granted_at and key in _gain(event):
                    return names[role_key], event.at
        return None

    def lost(self, key: str) -> tuple[str, datetime | None]:
        """The name of the role that lost the permission, or that was lost, last; and when."""
        for event in self._of([self.token.id, *self.role_ids], "role.edited", "apitoken.role_deleted"):
            if event.verb == "role.edited" and key in _loss(event):
                return str((event.after or {}).get("name", "")), event.at
            if event.verb == "apitoken.role_deleted":
                return "", event.at
        return "", None

    def raised(self, key: str) -> tuple[str, datetime | None]:
        """The name of the role that rose above the level of the grantor, and when."""
        level = self.standing.grantor_level or 0
        names = {role.key: role.name for role in self.standing.roles if key in role.permissions and role.level > level}
        ids = [pk for pk, role_key in self.role_ids.items() if role_key in names]
        for event in self._of(ids, "role.edited"):
            before, after = event.before or {}, event.after or {}
            if before.get("level", 0) <= level < after.get("level", 0):
                return str(after.get("name", "")), event.at
        return next(iter(names.values()), ""), None

    def owner_lost(self, key: str) -> datetime | None:
        """When the owner's roles changed last, or lost the permission."""
        token_roles = {self.token.id, *self.role_ids}
        for event in self._events:
            if event.verb == "membership.roles_changed" or (
                event.verb == "role.edited" and key in _loss(event) and event.target_id not in token_roles
            ):
                return event.at
        return None

    def deleted(self, key: str) -> datetime | None:
        for event in self._of([self.token.id], "apitoken.permission_deleted"):
            if key in set((event.before or {}).get("granted", [])) - set((event.after or {}).get("granted", [])):
                return event.at
        return None


def _gain(event: AuditEvent) -> set[str]:
    return set((event.after or {}).get("permissions", [])) - set((event.before or {}).get("permissions", []))


def _loss(event: AuditEvent) -> set[str]:
    return set((event.before or {}).get("permissions", [])) - set((event.after or {}).get("permissions", []))


def _words(layer: Layer, key: str, trail: _Trail) -> tuple[str, datetime | None]:
    since: datetime | None = None
    role = ""
    match layer:
        case Layer.GRANTED:
            if trail.standing.granted_through == "owner":
                return _("It has what its owner has."), None
            return _("It was granted, and nothing stands in its way."), None
        case Layer.UNKNOWN_PERMISSION:
            since = trail.deleted(key)
            if since:
                return _("The permission was deleted on %(date)s.") % {"date": _day(since)}, since
            return _("There is no such permission in this environment."), None
        case Layer.NOT_FOR_THIS_OWNER:
            return _("Tokens of this owner can't be granted it."), None
        case Layer.NEVER_GRANTED:
            return _("It was never granted."), None
        case Layer.LEFT_OUT:
            return _("Its role has it, but it was left out when the token was granted."), None
        case Layer.NOT_TAKEN_OVER:
            role, since = trail.gained(key) or ("", None)
            words = {"role": role, "date": _day(since)}
            if since:
                return _("Its role %(role)s got it on %(date)s, after the token was granted.") % words, since
            return _("Its role %(role)s got it after the token was granted.") % words, None
        case Layer.ROLE_LOST_IT:
            role, since = trail.lost(key)
            words = {"role": role, "date": _day(since)}
            if role:
                return _("Its role %(role)s lost it on %(date)s.") % words, since
            if since:
                return _("The role that it had it from was deleted on %(date)s.") % words, since
            return _("None of its roles has it any more."), None
        case Layer.ROLE_ABOVE_GRANTOR:
            role, since = trail.raised(key)
            words = {"role": role, "date": _day(since)}
            if since:
                return _("Its role %(role)s was raised above whoever granted it on %(date)s.") % words, since
            return _("Its role %(role)s was raised above whoever granted it.") % words, None
        case _:
            since = trail.owner_lost(key)
            return _("Its owner does not have it."), since


def _unusable(token: ApiToken, state: State) -> tuple[str, datetime | None]:
    member = token.membership or token.vendor_membership
    tenant = token.tenant
    at: dict[State, tuple[str, datetime | None]] = {
        State.ENVIRONMENT_SUSPENDED: (
            _("The environment is suspended."),
            token.environment.deleted_at or token.environment.suspended_at,
        ),
        State.TENANT_SUSPENDED: (
            _("The tenant is suspended."),
            (tenant.deleted_at or tenant.suspended_at) if tenant else None,
        ),
        State.TYPE_DISABLED: (_("The vendor has switched off tokens of this kind and owner."), None),
        State.OWNER_SUSPENDED: (_("Its owner is suspended."), member.suspended_at if member else None),
        State.OWNER_LEFT: (_("Its owner has left."), member.ended_at if member else None),
        State.DISABLED: (_("The token is disabled."), token.disabled_at),
        State.NOT_YET: (_("The token is not valid before %(date)s.") % {"date": _day(token.not_before)}, None),
        State.EXPIRED: (_("The token has expired."), token.expires_at),
        State.NO_AUDIENCE: (_("None of the APIs that the token is held to is left."), None),
    }
    return at.get(state, (_("The token does not work."), None))


def _day(moment: datetime | None) -> str:
    return date_format(timezone.localtime(moment), "DATE_FORMAT") if moment else ""


def offered(answer: Answer) -> Sequence[Explanation]:
    """What its roles have got since it was granted, which its page offers to take over (R3)."""
    return answer.in_layers(Layer.NOT_TAKEN_OVER)
