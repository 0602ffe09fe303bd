"""What about a token an administrator should look at. Computed at each reading, never stored, and it stops nothing."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from apitokens import policy

if TYPE_CHECKING:
    from apitokens.models import ApiToken


class Flag(StrEnum):
    SECRET_KNOWN_TO_FORMER_MEMBER = "secret_known_to_former_member"  # noqa: S105 -- what is known about one
    CREATOR_SUSPENDED = "creator_suspended"
    CREATOR_DEMOTED = "creator_demoted"
    ROLE_DROPPED = "role_dropped"
    OUT_OF_POLICY = "out_of_policy"


def of(token: ApiToken, *, at: datetime) -> tuple[Flag, ...]:
    """From the annotations of `with_standing` and `with_suspicions`; without them it is an AttributeError.

    What people do is a flag of the tokens that outlive them: a personal one stops and shrinks with its owner.
    """
    outlives = token.owner != "user"
    checks = {
        Flag.SECRET_KNOWN_TO_FORMER_MEMBER: outlives and token.is_known_to_one_who_left,
        Flag.CREATOR_SUSPENDED: outlives and token.is_creator_suspended,
        Flag.CREATOR_DEMOTED: outlives and _could_not_grant_it_today(token),
        Flag.ROLE_DROPPED: _has_dropped_role(token),
        Flag.OUT_OF_POLICY: bool(policy.beyond_type(token, at=at)),
    }
    return tuple(flag for flag, is_so in checks.items() if is_so)


def _could_not_grant_it_today(token: ApiToken) -> bool:
    """Whether its creator, still there, has a lower level than the one stored at the grant, or lacks what it has."""
    if not token.is_creator_member:
        return token.is_creator_without_grant_at_vendor
    level = max((row[0] for row in token.creator_rows), default=None)
    if token.grantor_level is not None and (level is None or level < token.grantor_level):
        return True
    # Without the strict ceiling a role may be granted by who lacks some of what it holds.
    if token.granted_through == "roles" and not token.environment.strict_ceiling:
        return False
    return not frozenset(token.granted) <= {row[1] for row in token.creator_rows}


def _has_dropped_role(token: ApiToken) -> bool:
    """Whether the level of one of its roles was raised above the one stored at the grant (R4)."""
    return token.grantor_level is not None and any(row[2] > token.grantor_level for row in token.role_rows)
