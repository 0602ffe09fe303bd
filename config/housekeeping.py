"""Erases what has had its time. Nothing here decides whether something works: that is computed at each use."""

from datetime import datetime, timedelta
from typing import Any

from django.contrib.sessions.models import Session
from django.db.models import QuerySet
from django.utils import timezone

from accounts import open_sessions
from accounts.models import CacheEntry
from apitokens import counting, versions
from apitokens.governance import erasure
from apitokens.models import IssueNonce, PortalSession, RevokedJWT, UsageHour, UsedAssertion

NONCES_KEPT = timedelta(days=7)
# A server whose clock is behind ours must not see a JWT that was revoked, or an assertion that was used, come back.
CLOCKS_DIFFER = timedelta(minutes=5)
BATCH = 5_000


def run(*, at: datetime | None = None) -> int:
    """One round, in batches that hold no long locks; the number of rows erased."""
    at = at or timezone.now()
    stale: tuple[QuerySet[Any], ...] = (
        IssueNonce.objects.filter(created_at__lt=at - NONCES_KEPT),
        Session.objects.filter(expire_date__lt=at),
        open_sessions.gone(),
        CacheEntry.objects.filter(expires__lt=at),
        RevokedJWT.objects.filter(expires_at__lt=at - CLOCKS_DIFFER),
        UsedAssertion.objects.filter(expires_at__lt=at - CLOCKS_DIFFER),
        PortalSession.objects.over(at=at),
        UsageHour.objects.filter(hour__lt=at - counting.KEPT),
    )
    versions.retire_overdue(at=at)
    return sum(_erase(rows) for rows in stale) + erasure.erase_due(at=at)


def _erase(rows: QuerySet[Any]) -> int:
    erased = 0
    while batch := list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH]):
        erased += rows.model._default_manager.filter(pk__in=batch).delete()[0]
    return erased
