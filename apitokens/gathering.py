"""What is learnt while requests are answered and may be written a little later: last use, counts, new digests (R9).

Noting costs a dictionary. A thread of each serving process writes what was gathered, once a minute and at an orderly
end, in short transactions of its own; a process that is killed loses what it noted since. Nothing here is ever part
of a decision.
"""

import logging
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from itertools import groupby, islice
from multiprocessing.util import Finalize
from typing import Any, TypeVar
from uuid import UUID

from django.db import (
    DatabaseError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.db.models import Field, Max
from django.utils import timezone

from apitokens.metrics import FLUSH_FAILURES
from apitokens.models import ApiToken, Secret, UsageHour
from audit.actors import Actor
from audit.models import ActorKind, AuditEvent
from audit.services import record
from tenants.models import Environment, Tenant

logger = logging.getLogger(__name__)

# Last use is told to the minute, and a process that is killed loses no more than one.
SECONDS_BETWEEN = range(50, 60)
SECONDS_AT_LEAST = 1
# Of each kind of note: a process that can't write, or is flooded, keeps so many and drops the rest.
MOST = 20_000
BATCH = 500

Outcome = UsageHour.Outcome
IS_USE = {Outcome.GRANTED, Outcome.ACCEPTED, Outcome.INTROSPECTED, Outcome.REJECTED}
# What is told as an event of the token, and at most how often: whoever guesses must not fill the record (R10).
TOLD = {
    str(Outcome.RETIRED_SECRET): ("apitoken.retired_secret_used", timedelta(minutes=1)),
    str(Outcome.WRONG_SECRET): ("apitoken.wrong_secret", timedelta(hours=1)),
}
Key = TypeVar("Key")
Presented = tuple[UUID, str]


@dataclass(frozen=True)
class Use:
    """When and from where it was last used. `secret_id` is the version that was presented, if any."""

    at: datetime
    ip: str | None
    secret_id: UUID | None = None


@dataclass(frozen=True)
class Redigest:
    was_under: int
    pepper_id: int
    digest: bytes = field(repr=False)


@dataclass(frozen=True, order=True)
class Hour:
    """What is counted: uses of one token, by tenant (else environment), hour and outcome."""

    environment_id: UUID
    token_id: UUID
    scope_id: UUID
    hour: datetime
    outcome: str


@dataclass
class Gathered:
    tokens: dict[UUID, Use] = field(default_factory=dict)
    versions: dict[UUID, Use] = field(default_factory=dict)
    counts: Counter[Hour] = field(default_factory=Counter)
    redigests: dict[UUID, Redigest] = field(default_factory=dict)
    # By token and outcome: the newest of those that are told.
    presented: dict[Presented, Use] = field(default_factory=dict)

    @property
    def is_crowded(self) -> bool:
        kinds = (self.tokens, self.versions, self.counts, self.redigests, self.presented)
        return max(len(kept) for kept in kinds) > MOST // 2


class _Process:
    """What this process has gathered, and its thread. A child made by fork begins with nothing of its parent's."""

    def __init__(self, *, is_writer: bool = False) -> None:
        self.is_writer = is_writer
        self.gathered = Gathered()
        self.lock = threading.Lock()
        self.writing = threading.Lock()
        self.wake = threading.Event()
        self.thread: threading.Thread | None = None
        self.has_dropped = False


_here = _Process()


def used(
    token: ApiToken,
    *,
    outcome: UsageHour.Outcome,
    tenant: Tenant | None,
    at: datetime,
    ip: str | None,
    secret_id: UUID | None = None,
) -> None:
    """Note one use. `secret_id` is the version of the secret that was presented, None for a JWT."""
    use = Use(at, ip, secret_id)
    scope_id = tenant.id if tenant else token.environment_id
    hour = Hour(token.environment_id, token.id, scope_id, at.replace(minute=0, second=0, microsecond=0), str(outcome))
    with _here.lock:
        gathered = _here.gathered
        if hour in gathered.counts or _has_room(gathered.counts):
            gathered.counts[hour] += 1
        if outcome in IS_USE:
            _keep_newer(gathered.tokens, token.id, use)
            if secret_id is not None:
                _keep_newer(gathered.versions, secret_id, use)
        elif outcome in TOLD:
            _keep_newer(gathered.presented, (token.id, str(outcome)), use)
    _see_to_writer()


def redigest(secret_id: UUID, *, was_under: int, pepper_id: int, digest: bytes) -> None:
    """Note that this version, whose secret was right just now, has this digest under the newer pepper."""
    with _here.lock:
        if _has_room(_here.gathered.redigests):
            _here.gathered.redigests[secret_id] = Redigest(was_under, pepper_id, digest)
    _see_to_writer()


def start() -> None:
    """From now on this process writes what it gathers, and once more when it ends in order.

    Said by what serves requests; a test or a command writes only when it calls `flush`.
    """
    _here.is_writer = True


def flush(*, at: datetime) -> None:
    """Write what was gathered; what can't be written now, because it is held or the database is away, is kept.

    Tokens, secrets and environments may be gone meanwhile: what was noted of them is dropped, and nothing else.
    """
    with _here.writing:
        with _here.lock:
            taken, _here.gathered = _here.gathered, Gathered()
        try:
            _write_redigests(taken)
            _write_uses_of_secrets(taken)
            _write_uses_of_tokens(taken, at)
            _write_counts(taken)
        except (OperationalError, InterfaceError) as error:
            FLUSH_FAILURES.inc()
            logger.warning("uses are written later: the database does not answer (%s)", type(error).__name__)
        else:
            _here.has_dropped = False
        finally:
            _put_back(taken)


def _keep_newer(uses: dict[Key, Use], key: Key, use: Use) -> None:
    known = uses.get(key)
    if known.at <= use.at if known else _has_room(uses):
        uses[key] = use


def _has_room(kept: Sized) -> bool:
    if len(kept) < MOST:
        return True
    if not _here.has_dropped:
        _here.has_dropped = True
        logger.warning("uses are not counted: more than %s wait to be written", MOST)
    return False


def _put_back(taken: Gathered) -> None:
    """What is left of what was taken; what was noted meanwhile is newer."""
    with _here.lock:
        noted = _here.gathered
        for hour, count in taken.counts.items():
            if hour in noted.counts or _has_room(noted.counts):
                noted.counts[hour] += count
        for secret_id, new in taken.redigests.items():
            if _has_room(noted.redigests):
                noted.redigests.setdefault(secret_id, new)
        for token_id, use in taken.tokens.items():
            _keep_newer(noted.tokens, token_id, use)
        for secret_id, use in taken.versions.items():
            _keep_newer(noted.versions, secret_id, use)
        for presented, use in taken.presented.items():
            _keep_newer(noted.presented, presented, use)


def _see_to_writer() -> None:
    """A thread in each process that serves, begun by its first request: before that, the process may yet fork."""
    if not _here.is_writer:
        return
    if _here.gathered.is_crowded:
        _here.wake.set()
    if _here.thread is None:
        with _here.lock:
            if _here.thread is None:
                _here.thread = _begin_writer()


def _begin_writer() -> threading.Thread | None:
    """None if no thread is to be had now: the next use tries again, and what was gathered is kept until then."""
    writer = threading.Thread(target=_write_again_and_again, name="gathering", daemon=True)
    try:
        writer.start()
    except RuntimeError as error:
        FLUSH_FAILURES.inc()
        logger.warning("uses are written later: no thread that writes could be started (%s)", error)
        return None
    # The server's workers are children of `multiprocessing`, which end without asking `atexit`.
    Finalize(None, _write, exitpriority=10)
    return writer


def _write_again_and_again() -> None:
    while True:
        # Not all processes at the same moment.
        _here.wake.wait(secrets.choice(SECONDS_BETWEEN))
        _here.wake.clear()
        _write()
        time.sleep(SECONDS_AT_LEAST)


def _write() -> None:
    try:
        flush(at=timezone.now())
    except Exception:  # the next round must come, whatever this was
        FLUSH_FAILURES.inc()
        logger.exception("uses were not written")
    finally:
        # Kept open, it would be one more connection a process, for one moment a minute.
        connections.close_all()


@contextmanager
def _one_batch() -> Iterator[None]:
    """A transaction. What the database will never take is lost with its batch, and takes no other along."""
    try:
        with transaction.atomic():
            yield
    except DatabaseError as error:
        if isinstance(error, OperationalError):
            raise
        FLUSH_FAILURES.inc()
        logger.exception("a batch of uses is lost")


def _batches(keys: Iterable[Key]) -> Iterator[list[Key]]:
    left = iter(list(keys))
    while batch := list(islice(left, BATCH)):
        yield batch


def _write_redigests(taken: Gathered) -> None:
    """What somebody holds is dropped: the next time that it is presented will do."""
    for ids in _batches(taken.redigests):
        with _one_batch():
            secret_rows = Secret.objects.select_for_update(skip_locked=True, no_key=True).filter(pk__in=ids)
            rows = [row for row in secret_rows if row.pepper_id == taken.redigests[row.pk].was_under]
            for row in rows:
                row.digest, row.pepper_id = taken.redigests[row.pk].digest, taken.redigests[row.pk].pepper_id
            Secret.objects.bulk_update(rows, ["digest", "pepper_id"])
        for secret_id in ids:
            del taken.redigests[secret_id]


def _write_uses_of_secrets(taken: Gathered) -> None:
    for ids in _batches(taken.versions):
        held: set[UUID] = set()
        with _one_batch():
            free = _write_last_use(Secret, ids, taken.versions)
            held = _held(Secret, ids, free)
        for secret_id in set(ids) - held:
            del taken.versions[secret_id]


def _write_uses_of_tokens(taken: Gathered, at: datetime) -> None:
    """The last use of each, and the events of it, under the one lock: no two processes tell the same of a token."""
    for ids in _batches({*taken.tokens, *(token_id for token_id, _ in taken.presented)}):
        held: set[UUID] = set()
        with _one_batch():
            free = _write_last_use(ApiToken, ids, taken.tokens)
            _tell({key: use for key, use in taken.presented.items() if key[0] in free}, at)
            held = _held(ApiToken, ids, free)
        for token_id in set(ids) - held:
            taken.tokens.pop(token_id, None)
            for outcome in TOLD:
                taken.presented.pop((token_id, outcome), None)


def _write_last_use(model: type[ApiToken] | type[Secret], ids: list[UUID], uses: Mapping[UUID, Use]) -> set[UUID]:
    """Write the last use of those rows that nobody holds, never an older one over a newer; which rows those are.

    Whoever holds a row is not waited for, so that nobody ever waits for each other here.
    """
    rows = (
        model._default_manager.select_for_update(skip_locked=True, no_key=True)
        .filter(pk__in=ids)
        .only("pk", "last_used_at")
    )
    free: set[UUID] = set()
    later: list[Any] = []
    for row in rows:
        free.add(row.pk)
        use = uses.get(row.pk)
        if use and (row.last_used_at is None or row.last_used_at < use.at):
            row.last_used_at, row.last_used_ip = use.at, use.ip
            later.append(row)
    model._default_manager.bulk_update(later, ["last_used_at", "last_used_ip"])
    return free


def _held(model: type[ApiToken] | type[Secret], ids: list[UUID], free: set[UUID]) -> set[UUID]:
    """Of the rows that were not free those that exist: somebody holds them, and the others are gone."""
    if not (missed := set(ids) - free):
        return set()
    return set(model._default_manager.filter(pk__in=missed).values_list("pk", flat=True))


def _tell(presented: Mapping[Presented, Use], at: datetime) -> None:
    """An event of each token for what was presented in its name, unless one has told of it a short while ago."""
    if not presented:
        return
    ids = {token_id for token_id, _ in presented}
    verbs, periods = zip(*TOLD.values(), strict=True)
    told = AuditEvent.objects.filter(target_id__in=ids, verb__in=verbs, at__gt=at - max(periods))
    told_at = {
        (token_id, verb): last
        for token_id, verb, last in told.values_list("target_id", "verb").annotate(last=Max("at")).order_by()
    }
    versions = {use.secret_id for use in presented.values() if use.secret_id}
    secrets_by_id = Secret.objects.in_bulk(versions)
    tokens = ApiToken.objects.in_bulk(ids)
    for (token_id, outcome), use in presented.items():
        (verb, every), token = TOLD[outcome], tokens[token_id]
        last, secret = told_at.get((token_id, verb)), secrets_by_id.get(use.secret_id)
        if last is not None and at - last < every:
            continue
        record(
            actor=Actor(kind=ActorKind.TOKEN, id=token.id, label=token.name, ip=use.ip),
            verb=verb,
            target_kind="apitoken",
            target_id=token.id,
            environment_id=token.environment_id,
            tenant_id=token.tenant_id,
            after=secret.known_as if secret else None,
            refused_because=outcome,
        )


def _write_counts(taken: Gathered) -> None:
    """Each environment by itself: one that is erased meanwhile takes its own counts along, and no other's."""
    for environment_id, hours in groupby(sorted(taken.counts), key=lambda hour: hour.environment_id):
        for batch in _batches(hours):
            with _one_batch(), suppress(IntegrityError), transaction.atomic():  # an environment may go meanwhile
                if Environment.objects.filter(pk=environment_id).exists():
                    _add({hour: taken.counts[hour] for hour in batch})
            for hour in batch:
                del taken.counts[hour]


def _add(counts: Mapping[Hour, int]) -> None:
    """Django's own upsert replaces; this one adds. In the order given: two processes with one order never deadlock."""
    of_hour = {each.name for each in fields(Hour)}
    stored: list[Field[Any, Any]] = [each for each in UsageHour._meta.concrete_fields if each.attname in of_hour]
    table, columns = UsageHour._meta.db_table, [str(each.column) for each in stored]
    row = f"({', '.join(['%s'] * (len(columns) + 1))})"
    sql = f"""
        INSERT INTO {table} ({", ".join(columns)}, count) VALUES {", ".join([row] * len(counts))}
        ON CONFLICT (token_id, scope_id, hour, outcome) DO UPDATE SET count = {table}.count + excluded.count
    """  # noqa: S608 -- our own names
    values: list[Any] = []
    for hour, count in counts.items():
        values += [each.get_db_prep_save(getattr(hour, each.attname), connection) for each in stored]
        values.append(count)
    with connection.cursor() as cursor:
        cursor.execute(sql, values)


def _after_fork() -> None:
    """The parent writes what is the parent's; its threads, and what they held locked, are not here."""
    global _here
    _here = _Process(is_writer=_here.is_writer)


os.register_at_fork(after_in_child=_after_fork)
