"""How often credentials were refused: asked after a refusal only, so that a right secret always passes.

Two counts a refusal: of whom it named and of the address it came from. Each falls into one of a fixed number of
buckets, so that strangers can't make the table grow; the buckets are drawn with our key, so that nobody can aim at
somebody else's. Who shares a bucket shares a limit that only a wrong secret ever meets.
"""

import hmac
import math
from datetime import datetime, timedelta
from hashlib import sha256
from ipaddress import IPv6Address, ip_address

from django.conf import settings

from apitokens.metrics import REFUSALS_LIMITED
from apitokens.models import RefusalCount

WINDOW = timedelta(minutes=15)
# NIST 800-63B-4 allows 100 failures in a row; a program that retries with an old secret needs far fewer to be noticed.
PER_CLIENT = 50
# One address may be a whole company behind its gateway: several clients with an old secret each.
PER_ADDRESS = 200
BUCKETS = 2**16
# All of an IPv6 /64 is commonly one customer's.
IPV6_HOST_BITS = 64

_COUNT = """
    INSERT INTO {table} (bucket, began_at, count) VALUES {rows}
    ON CONFLICT (bucket) DO UPDATE SET
        count = CASE WHEN {table}.began_at <= %s THEN 1 ELSE {table}.count + 1 END,
        began_at = CASE WHEN {table}.began_at <= %s THEN excluded.began_at ELSE {table}.began_at END
    RETURNING bucket, began_at, count
"""


def refused(*, client_id: str | None, ip: str | None, at: datetime) -> int | None:
    """Count one refused credential, across workers; the seconds to wait if that was one too many, else None.

    `client_id` is whom the credential named, whether or not there is such a client; None if nobody.
    """
    limits = {_bucket("address", _network(ip), above=BUCKETS): PER_ADDRESS}
    if client_id:
        limits[_bucket("client", client_id)] = PER_CLIENT
    counted = _count(sorted(limits), at)
    ends = [row.began_at + WINDOW for row in counted if row.count > limits[row.bucket]]
    if not ends:
        return None
    REFUSALS_LIMITED.inc()
    return max(1, math.ceil((max(ends) - at).total_seconds()))


def _count(buckets: list[int], at: datetime) -> list[RefusalCount]:
    """One statement and so one transaction, whose rows are taken in one order."""
    sql = _COUNT.format(table=RefusalCount._meta.db_table, rows=", ".join(["(%s, %s, 1)"] * len(buckets)))
    new = [value for bucket in buckets for value in (bucket, at)]
    return list(RefusalCount.objects.raw(sql, [*new, at - WINDOW, at - WINDOW]))


def _bucket(kind: str, named: str, *, above: int = 0) -> int:
    drawn = hmac.digest(settings.SECRET_KEY.encode(), f"refusals by {kind}: {named}".encode(), sha256)
    return above + int.from_bytes(drawn[:8], "big") % BUCKETS


def _network(ip: str | None) -> str:
    """What is one neighbour of ours; requests without an address that can be told share one."""
    if ip is None:
        return ""
    address = ip_address(ip)
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{int(address) >> IPV6_HOST_BITS:x}::"
