"""What a token proves itself by, as pages show it: each version that works, and the rotation that is under way."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _

from apitokens import versions
from apitokens.models import ApiToken, Secret
from apitokens.pages.words import at_moment, last_used_in_words


@dataclass(frozen=True, kw_only=True)
class ProofRow:
    """One version. `is_old` and `is_new` are of a rotation under way; without one it is neither."""

    secret: Secret
    is_old: bool = False
    is_new: bool = False

    @property
    def last_used_label(self) -> str:
        never = _("not since it was made") if self.is_new else _("never")
        return last_used_in_words(self.secret.last_used_at, self.secret.last_used_ip, never=never)


@dataclass(frozen=True, kw_only=True)
class Proofs:
    """`rows` has the older one first."""

    rows: tuple[ProofRow, ...]
    rotation: versions.Rotation | None = None

    @property
    def deadline(self) -> str:
        return at_moment(self.rotation.deadline) if self.rotation else ""

    @property
    def old(self) -> ProofRow | None:
        return self.rows[0] if self.rotation else None

    @property
    def newest(self) -> ProofRow | None:
        return self.rows[-1] if self.rows else None


def proofs_of(token: ApiToken, at: datetime) -> Proofs:
    """Those that work at that moment."""
    held = list(token.secrets.filter(slot__isnull=False))
    if (rotation := versions.rotation_among(held, at)) is not None:
        rows = (ProofRow(secret=rotation.old, is_old=True), ProofRow(secret=rotation.new, is_new=True))
        return Proofs(rows=rows, rotation=rotation)
    return Proofs(rows=tuple(ProofRow(secret=secret) for secret in versions.live_among(held, at)))


def seconds_left(token: ApiToken, at: datetime) -> int | None:
    """Until the token's own expiry, None if it never expires."""
    return max(0, int((token.expires_at - at).total_seconds())) if token.expires_at else None
