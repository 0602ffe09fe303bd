"""Which tokens are meant: the one set of filters that lists, searches and *Disable all* share."""

import re
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from django.db.models import Exists, OuterRef, Q
from django.utils.translation import gettext as _

from apitokens.credentials import TOKEN_ID, parse, redacted
from apitokens.models import ApiTokenRole, Kind, Owner, Secret
from apitokens.orders import InvalidField, name_key
from apitokens.paging import Sort
from apitokens.querysets import ApiTokenQuerySet
from audit.words import listed
from tenants.models import Environment

TEXT_MAX = 100
LAST_FOUR = 4
# What expires within this time is about to.
EXPIRING = timedelta(days=30)


class StateFilter(StrEnum):
    USABLE = "usable"
    DISABLED = "disabled"
    NOT_YET = "not_yet"
    EXPIRED = "expired"
    OUT_OF_POLICY = "out_of_policy"


# Those for which there is an index across tenants.
SORTS_EVERYWHERE = (Sort.NEWEST, Sort.OLDEST)


def sort_in(text: str, *, is_everywhere: bool = False) -> Sort:
    """The order that an address asks for; raises InvalidField. `is_everywhere`: of a whole environment's tenants."""
    known = SORTS_EVERYWHERE if is_everywhere else tuple(Sort)
    if not text:
        return Sort.NEWEST
    if text not in known:
        raise InvalidField("sort", _("Sort is one of %(known)s.") % {"known": listed(known)})
    return Sort(text)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """`role` is a key or an id, `creator` a person's id, `parent` a token_id, `q` as in `_is_called`; empty is any."""

    tenant: UUID | None = None
    owner: str = ""
    kind: str = ""
    role: str = ""
    creator: UUID | None = None
    parent: str = ""
    state: str = ""
    never_used: bool = False
    expiring: bool = False
    q: str = ""

    @property
    def is_empty(self) -> bool:
        return not any(getattr(self, field.name) for field in fields(self))

    def described(self) -> dict[str, object]:
        """For the record and for addresses: what is filled in, as text."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: "true" if value is True else str(value) for name, value in given.items() if value}

    def check(self) -> None:
        """Raises InvalidField for what no token could match."""
        for name, known in (("owner", Owner.values), ("kind", Kind.values), ("state", list(StateFilter))):
            if getattr(self, name) and getattr(self, name) not in known:
                raise InvalidField(
                    name, _("%(name)s is one of %(known)s.") % {"name": name.capitalize(), "known": listed(known)}
                )
        for name in ("role", "q", "parent"):
            if len(getattr(self, name)) > TEXT_MAX or "\0" in getattr(self, name):
                raise InvalidField(name, _("At most %(most)s characters, none of them invisible.") % {"most": TEXT_MAX})
        if redacted(self.q) != self.q:
            raise InvalidField(
                "q", _("This looks like a secret. Search by the token's id, name or last four characters.")
            )


def among(tokens: ApiTokenQuerySet, chosen: Chosen, *, environment: Environment, at: datetime) -> ApiTokenQuerySet:
    """Those of the tokens, all of the environment, that are meant; raises InvalidField."""
    chosen.check()
    exact = {"tenant": chosen.tenant, "owner": chosen.owner, "kind": chosen.kind, "creator": chosen.creator}
    tokens = tokens.filter(**{name: value for name, value in exact.items() if value})
    if chosen.parent:
        tokens = tokens.filter(parent__token_id=chosen.parent)
    if chosen.role:
        tokens = tokens.filter(_has_role(chosen.role))
    if chosen.never_used:
        tokens = tokens.filter(last_used_at__isnull=True)
    if chosen.expiring:
        tokens = tokens.filter(expires_at__gt=at, expires_at__lte=at + EXPIRING)
    if chosen.q:
        tokens = tokens.filter(_is_called(chosen.q, environment))
    match chosen.state:
        case StateFilter.USABLE:
            return tokens.usable(at=at)
        case StateFilter.DISABLED:
            return tokens.filter(disabled_at__isnull=False)
        case StateFilter.NOT_YET:
            return tokens.filter(not_before__gt=at)
        case StateFilter.EXPIRED:
            return tokens.filter(expires_at__lte=at)
        case StateFilter.OUT_OF_POLICY:
            return tokens.out_of_policy(at=at)
    return tokens


def _has_role(reference: str) -> Exists:
    try:
        named = Q(role_id=UUID(reference))
    except ValueError:
        named = Q(role__key=reference)
    return Exists(ApiTokenRole.objects.filter(named, token=OuterRef("pk")))


def _is_called(text: str, environment: Environment) -> Q:
    """By the beginning of its name, or exactly by its id, its client id or the last four of a secret that works."""
    text = text.strip()
    called = Q(name_key__startswith=name_key(text)) | Q(client_id=text)
    if TOKEN_ID.fullmatch(text):
        called |= Q(token_id=text)
    if len(text) == LAST_FOUR:
        live = Secret.objects.filter(environment=environment, last_four=text, slot__isnull=False)
        called |= Q(pk__in=live.values("token"))
    return called


def token_ids_in(pasted: str) -> list[str]:
    """The public ids of the whole secrets in a text, perhaps a line of a log: nothing else of them is looked for."""
    words = re.split(r"[^0-9A-Za-z_]+", pasted)
    return [secret.token_id for secret in map(parse, words) if secret]
