"""Last use and counters are gathered and written a little later, and nothing in the request's transaction (R9)."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import DataError, OperationalError, connection, connections, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apitokens import gathering
from apitokens.governance import erasure
from apitokens.metrics import FLUSH_FAILURES
from apitokens.models import ApiToken, Secret, UsageHour
from audit.models import AuditEvent
from tenants.models import ApiIdentifier, Environment, RolePermission
from tests.backend import Backend
from tests.cast import bearer, grant, jwt_of, wrong_secret
from tests.factories import EnvironmentFactory
from tests.server import running_server

NOW = datetime(2026, 5, 4, 10, 30, 15, tzinfo=UTC)
HOUR = NOW.replace(minute=0, second=0)
FROM = "192.0.2.7"


@pytest.fixture
def program():
    """A program at an address of its own."""
    return Client(REMOTE_ADDR=FROM)


def call(program, plaintext):
    return program.get("/api/v1/token/self", headers=bearer(plaintext))


def counts(**of):
    """{outcome: count}, of everything that was written."""
    found = {}
    for row in UsageHour.objects.filter(**of):
        found[row.outcome] = found.get(row.outcome, 0) + row.count
    return found


def last_use(row):
    row.refresh_from_db()
    return row.last_used_at, row.last_used_ip


def test_an_authenticated_request_and_a_grant_write_nothing(acme, program):
    opaque = acme.issue("admin", name="Opaque")
    client = acme.issue("admin", name="Client", kind="client_credentials")
    jwt = jwt_of(program, client)  # the first one takes its place in the status list
    for act in (
        lambda: call(program, opaque.plaintext),
        lambda: call(program, jwt),
        lambda: grant(program, client),
    ):
        with CaptureQueriesContext(connection) as captured:
            assert act().status_code == 200
        assert {query["sql"].split()[0] for query in captured} == {"SELECT"}
    assert [*UsageHour.objects.all(), *ApiToken.objects.exclude(last_used_at=None)] == []


def test_when_and_from_where_it_was_last_used_is_told_of_the_token_and_of_the_version(acme, program):
    issued = acme.issue("admin")
    secret = Secret.objects.get(token=issued.token)
    with time_machine.travel(NOW, tick=False):
        assert call(program, issued.plaintext).status_code == 200
    gathering.flush(at=NOW)
    assert last_use(issued.token) == last_use(secret) == (NOW, FROM)


def test_a_jwt_is_a_use_of_its_token_and_of_no_version(acme, program):
    client = acme.issue("admin", kind="client_credentials")
    secret = Secret.objects.get(token=client.token)
    with time_machine.travel(NOW, tick=False) as clock:
        jwt = jwt_of(program, client)
        clock.move_to(NOW + timedelta(minutes=2))
        assert call(program, jwt).status_code == 200
    gathering.flush(at=NOW)
    assert last_use(client.token) == (NOW + timedelta(minutes=2), FROM)
    assert last_use(secret) == (NOW, FROM)


def test_last_use_never_goes_back(acme):
    """Two processes flush when they do; the one that comes later may know less."""
    issued = acme.issue("admin")
    for minutes, expected in ((5, 5), (2, 5), (7, 7)):
        with time_machine.travel(NOW + timedelta(minutes=minutes), tick=False):
            call(Client(REMOTE_ADDR=f"192.0.2.{minutes}"), issued.plaintext)
        gathering.flush(at=NOW)
        assert last_use(issued.token) == (NOW + timedelta(minutes=expected), f"192.0.2.{expected}")
    assert counts() == {"accepted": 3}


def unusable(acme, program, issued):
    ApiToken.objects.update(disabled_at=NOW)
    return call(program, issued.plaintext)


def for_another_api(acme, program, issued):
    ApiIdentifier.objects.create(environment=acme.environment, uri="https://files.example")
    ApiToken.objects.update(audiences=["https://files.example"])
    return call(program, issued.plaintext)


def wrong(acme, program, issued):
    return call(program, wrong_secret(issued))


def retired(acme, program, issued):
    Secret.objects.filter(token=issued.token).update(slot=None, retired_at=NOW)
    return call(program, issued.plaintext)


def overdue(acme, program, issued):
    """The deadline of a rotation has passed, and nobody has tidied up yet."""
    Secret.objects.filter(token=issued.token).update(expires_at=NOW - timedelta(seconds=1))
    return call(program, issued.plaintext)


def beyond(acme, program, issued):
    client = acme.issue("admin", kind="client_credentials", name="Client")
    return grant(program, client, scope="settings:manage")


@pytest.mark.parametrize(
    ("act", "status", "outcome", "is_use"),
    [
        pytest.param(lambda acme, program, issued: call(program, issued.plaintext), 200, "accepted", True, id="right"),
        pytest.param(beyond, 400, "rejected", True, id="asks-for-too-much"),
        pytest.param(unusable, 401, "unusable", False, id="disabled"),
        pytest.param(for_another_api, 401, "unusable", False, id="for-another-api"),
        pytest.param(wrong, 401, "wrong_secret", False, id="wrong"),
        pytest.param(retired, 401, "retired_secret", False, id="retired"),
        pytest.param(overdue, 401, "retired_secret", False, id="past-its-deadline"),
    ],
)
def test_each_outcome_is_counted_by_the_hour(acme, program, act, status, outcome, is_use):
    issued = acme.issue("admin", permissions=["reports:read"])
    with time_machine.travel(NOW, tick=False):
        assert act(acme, program, issued).status_code == status
    gathering.flush(at=NOW)
    row = UsageHour.objects.get()
    assert (row.outcome, row.count, row.hour) == (outcome, 1, HOUR)
    assert (row.environment_id, row.scope_id) == (acme.environment.id, acme.tenant.id)
    used = ApiToken.objects.get(pk=row.token_id)
    assert (used.last_used_at is not None) == is_use


def test_a_jwt_of_whose_scope_nothing_is_left_is_counted_as_unusable(acme, program):
    client = acme.issue("admin", kind="client_credentials", roles=["member"])
    jwt = jwt_of(program, client, scope="reports:write")
    assert call(program, jwt).status_code == 200
    RolePermission.objects.filter(role=acme.role("member"), permission__key="reports:write").delete()
    assert call(program, jwt).status_code == 401
    gathering.flush(at=NOW)
    assert counts() == {"granted": 1, "accepted": 1, "unusable": 1}


def test_what_the_vendors_token_does_is_counted_where_it_does_it(world, program):
    acme = world.acme
    client = acme.issue_for_environment(kind="client_credentials")
    for tenant in ({}, {"tenant": str(acme.tenant.id)}):
        jwt = jwt_of(program, client, **tenant)
        assert call(program, jwt).status_code == 200
    gathering.flush(at=NOW)
    assert counts(scope_id=acme.environment.id) == {"granted": 1, "accepted": 1}
    assert counts(scope_id=acme.tenant.id) == {"granted": 1, "accepted": 1}


def test_counts_of_an_hour_add_up_over_rounds_and_processes(acme, program):
    issued = acme.issue("admin")
    with time_machine.travel(NOW, tick=False) as clock:
        for calls in (3, 2):
            for _ in range(calls):
                call(program, issued.plaintext)
            gathering.flush(at=NOW)
        clock.move_to(NOW + timedelta(hours=1))
        call(program, issued.plaintext)
        gathering.flush(at=NOW)
    rows = UsageHour.objects.order_by("hour").values_list("hour", "outcome", "count")
    assert list(rows) == [(HOUR, "accepted", 5), (HOUR + timedelta(hours=1), "accepted", 1)]


def test_a_round_with_nothing_to_write_asks_nothing(db, django_assert_num_queries):
    with django_assert_num_queries(0):
        gathering.flush(at=NOW)


def test_a_round_takes_as_many_statements_for_many_tokens_as_for_few(acme, program):
    def statements(name, many):
        for n in range(many):
            call(program, acme.issue("admin", name=f"{name} {n}").plaintext)
        with CaptureQueriesContext(connection) as captured:
            gathering.flush(at=timezone.now())
        return len(captured)

    assert statements("Few", 2) == statements("Many", 12)


def test_a_secret_that_was_replaced_and_comes_again_is_an_event_that_says_which(acme, program):
    issued = acme.issue("admin")
    with time_machine.travel(NOW, tick=False) as clock:
        for _ in range(3):
            assert retired(acme, program, issued).json()["detail"] == "The token is unknown, expired or malformed."
        gathering.flush(at=timezone.now())
        event = AuditEvent.objects.get(verb="apitoken.retired_secret_used")
        assert (event.outcome, event.reason, event.ip) == ("refused", "retired_secret", FROM)
        assert (event.actor_kind, event.actor_id, event.target_id) == ("token", issued.token.id, issued.token.id)
        assert (event.environment_id, event.tenant_id) == (acme.environment.id, acme.tenant.id)
        assert event.after == {"last_four": issued.plaintext[-4:]}
        clock.move_to(NOW + timedelta(minutes=2))
        retired(acme, program, issued)
        gathering.flush(at=timezone.now())
    assert AuditEvent.objects.filter(verb="apitoken.retired_secret_used").count() == 2
    assert counts() == {"retired_secret": 4}


def test_wrong_secrets_are_counted_and_one_an_hour_is_told(acme, program):
    """R10: whoever guesses must not fill the record."""
    issued = acme.issue("admin")
    guess = wrong_secret(issued)
    with time_machine.travel(NOW, tick=False) as clock:
        for minutes in (0, 1, 30, 59, 61):
            clock.move_to(NOW + timedelta(minutes=minutes))
            for _ in range(4):
                assert call(program, guess).status_code == 401
            gathering.flush(at=timezone.now())
    events = AuditEvent.objects.filter(verb="apitoken.wrong_secret").order_by("at")
    assert [event.at for event in events] == [NOW, NOW + timedelta(minutes=61)]
    assert {(event.reason, event.actor_id, event.ip) for event in events} == {("wrong_secret", issued.token.id, FROM)}
    assert [event.after for event in events] == [None, None]
    assert counts() == {"wrong_secret": 20}


def test_an_id_that_nobody_has_leaves_nothing(acme, program):
    issued = acme.issue("admin")
    plaintext = issued.plaintext
    ApiToken.objects.all().delete()
    assert call(program, plaintext).status_code == 401
    events = AuditEvent.objects.count()
    gathering.flush(at=NOW)
    assert not UsageHour.objects.exists()
    assert AuditEvent.objects.count() == events


def test_what_is_gone_meanwhile_takes_nothing_else_with_it(acme, program):
    gone, kept = acme.issue("admin", name="Gone"), acme.issue("admin", name="Kept")
    for issued in (gone, kept):
        call(program, issued.plaintext)
        call(program, wrong_secret(issued))
    doomed = EnvironmentFactory()
    gathering.used(ApiToken(environment=doomed), outcome=UsageHour.Outcome.ACCEPTED, tenant=None, at=NOW, ip=None)
    gathering.redigest(Secret.objects.get(token=gone.token).id, was_under=1, pepper_id=2, digest=b"0" * 32)
    gone_id = gone.token.id
    gone.token.delete()
    erase(doomed)
    gathering.flush(at=timezone.now())
    assert last_use(kept.token)[1] == FROM
    assert counts(token_id=kept.token.id) == {"accepted": 1, "wrong_secret": 1}
    assert [event.target_id for event in AuditEvent.objects.filter(verb="apitoken.wrong_secret")] == [kept.token.id]
    # How often it was used outlives a token; with its environment it goes.
    assert counts(token_id=gone_id) == {"accepted": 1, "wrong_secret": 1}
    assert UsageHour.objects.count() == 4


def test_a_database_that_is_away_loses_nothing(acme, program):
    issued = acme.issue("admin")
    call(program, issued.plaintext)

    def fail(*_):
        raise OperationalError("server closed the connection unexpectedly")

    with connection.execute_wrapper(fail):
        gathering.flush(at=NOW)
    call(program, issued.plaintext)
    assert counts() == {}
    gathering.flush(at=NOW)
    assert counts() == {"accepted": 2}
    assert last_use(issued.token)[1] == FROM


def test_a_fault_half_way_counts_nothing_twice(acme, program):
    issued = acme.issue("admin")
    call(program, issued.plaintext)
    call(program, wrong_secret(issued))

    def fail(execute, sql, *given):
        if sql.strip().startswith("INSERT INTO apitokens_usagehour"):
            raise OperationalError("server closed the connection unexpectedly")
        return execute(sql, *given)

    with connection.execute_wrapper(fail):
        gathering.flush(at=timezone.now())
    for _ in range(2):
        gathering.flush(at=timezone.now())
    assert counts() == {"accepted": 1, "wrong_secret": 1}
    assert AuditEvent.objects.filter(verb="apitoken.wrong_secret").count() == 1


def test_what_the_database_never_takes_is_lost_and_takes_nothing_along(acme, globex, program):
    issued = acme.issue("admin")
    call(program, issued.plaintext)

    def fail(execute, sql, *given):
        if sql.strip().startswith("UPDATE"):
            raise DataError("invalid input syntax for type inet")
        return execute(sql, *given)

    with connection.execute_wrapper(fail):
        gathering.flush(at=timezone.now())
    assert counts() == {"accepted": 1}
    gathering.flush(at=timezone.now())
    assert (counts(), last_use(issued.token)) == ({"accepted": 1}, (None, None))


def test_more_than_it_keeps_is_dropped_and_said_once(acme, program, monkeypatch, caplog):
    monkeypatch.setattr(gathering, "MOST", 3)
    for n in range(6):
        call(program, acme.issue("admin", name=f"Token {n}").plaintext)
    assert [line.message for line in caplog.records if line.name == "apitokens.gathering"] == [
        "uses are not counted: more than 3 wait to be written"
    ]
    gathering.flush(at=NOW)
    assert counts() == {"accepted": 3}
    assert ApiToken.objects.exclude(last_used_at=None).count() == 3


def test_what_is_dropped_after_a_round_that_went_well_is_said_again(acme, program, monkeypatch, caplog):
    monkeypatch.setattr(gathering, "MOST", 1)
    monkeypatch.setattr(gathering._here, "has_dropped", False)
    issued = [acme.issue("admin", name=name).plaintext for name in ("One", "Two")]
    for _ in range(2):
        for plaintext in issued:
            call(program, plaintext)
        gathering.flush(at=NOW)
    assert [line.message for line in caplog.records if line.name == "apitokens.gathering"] == [
        "uses are not counted: more than 1 wait to be written"
    ] * 2


def test_a_secret_under_an_old_pepper_is_digested_anew_after_its_next_use(acme, program, settings):
    issued, unused = acme.issue("admin", name="Used"), acme.issue("admin", name="Unused")
    (old,) = settings.PEPPERS
    settings.PEPPERS = {**settings.PEPPERS, old + 1: b"a newer pepper of 32 bytes......"}
    assert call(program, issued.plaintext).status_code == 200
    gathering.flush(at=NOW)
    assert Secret.objects.get(token=issued.token).pepper_id == old + 1
    assert Secret.objects.get(token=unused.token).pepper_id == old
    settings.PEPPERS = {old + 1: settings.PEPPERS[old + 1]}
    assert call(program, issued.plaintext).status_code == 200
    assert call(program, unused.plaintext).status_code == 401


def test_a_new_digest_is_not_written_over_a_newer_secret(acme, program, settings):
    issued = acme.issue("admin")
    (old,) = settings.PEPPERS
    settings.PEPPERS = {**settings.PEPPERS, old + 1: b"a newer pepper of 32 bytes......"}
    call(program, issued.plaintext)
    Secret.objects.filter(token=issued.token).update(pepper_id=old + 1, digest=b"1" * 32)
    gathering.flush(at=NOW)
    assert bytes(Secret.objects.get(token=issued.token).digest) == b"1" * 32


def test_what_is_gathered_holds_no_secret(acme, program, settings):
    issued = acme.issue("admin")
    (old,) = settings.PEPPERS
    settings.PEPPERS = {**settings.PEPPERS, old + 1: b"a newer pepper of 32 bytes......"}
    call(program, issued.plaintext)
    call(program, wrong_secret(issued))
    kept = repr(gathering._here.gathered)
    assert issued.plaintext not in kept
    assert "digest" not in kept.replace("redigests", "").replace("Redigest", "")


def test_a_process_that_only_tests_has_no_thread_that_writes(acme, program):
    call(program, acme.issue("admin").plaintext)
    assert "gathering" not in {thread.name for thread in threading.enumerate()}


def test_a_thread_that_can_not_begin_costs_no_request_and_is_begun_by_a_later_one(acme, program, monkeypatch, caplog):
    here = gathering._Process(is_writer=True)
    monkeypatch.setattr(gathering, "_here", here)
    monkeypatch.setattr(gathering, "Finalize", lambda *_, **__: None)
    monkeypatch.setattr(gathering, "_write_again_and_again", lambda: None)
    start, refusals = threading.Thread.start, ["can't start new thread"]

    def start_if_there_is_one(thread):
        if thread.name == "gathering" and refusals:
            raise RuntimeError(refusals.pop())
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_if_there_is_one)
    issued, failures = acme.issue("admin"), FLUSH_FAILURES._value.get()
    assert call(program, issued.plaintext).status_code == 200
    assert here.thread is None
    assert FLUSH_FAILURES._value.get() == failures + 1
    assert [line.message for line in caplog.records if line.name == "apitokens.gathering"] == [
        "uses are written later: no thread that writes could be started (can't start new thread)"
    ]
    assert call(program, issued.plaintext).status_code == 200
    here.thread.join(30)
    gathering.flush(at=NOW)
    assert counts() == {"accepted": 2}


def test_an_edit_undoes_no_last_use(acme, program):
    issued = acme.issue("admin")
    stale = ApiToken.objects.get(pk=issued.token.pk)
    with time_machine.travel(NOW, tick=False):
        call(program, issued.plaintext)
    gathering.flush(at=NOW)
    assert stale.last_used_at is None
    path = f"tokens/{issued.token.token_id}?tenant={acme.tenant.id}"
    assert acme.api("admin", "PATCH", path, {"name": "Renamed"}).status_code == 200
    assert acme.api("admin", "PATCH", path, {"roles": ["viewer"]}).status_code == 200
    assert last_use(issued.token) == (NOW, FROM)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_row_that_somebody_holds_is_not_waited_for_and_written_the_next_time(acme, program):
    held, free = acme.issue("admin", name="Held"), acme.issue("admin", name="Free")
    for issued in (held, free):
        call(program, issued.plaintext)
    with transaction.atomic():
        ApiToken.objects.select_for_update().get(pk=held.token.pk)
        Secret.objects.select_for_update().get(token=held.token)
        elsewhere(lambda: gathering.flush(at=NOW))
    assert last_use(free.token)[1] == FROM
    assert last_use(held.token) == (None, None)
    assert counts() == {"accepted": 2}
    gathering.flush(at=NOW)
    assert last_use(held.token)[1] == last_use(Secret.objects.get(token=held.token))[1] == FROM
    assert counts() == {"accepted": 2}


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_rounds_of_many_processes_at_the_same_moment_lose_no_count(acme):
    """Each thread stands for a process: all write the same rows, in batches."""
    issued = [acme.issue("admin", name=f"Token {n}").token for n in range(5)]

    def write():
        for _ in range(10):
            taken = gathering.Gathered()
            for token in issued:
                hour = gathering.Hour(acme.environment.id, token.id, acme.tenant.id, HOUR, "accepted")
                taken.counts[hour] += 1
            gathering._write_counts(taken)

    threads = [threading.Thread(target=lambda: closing(write)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert counts() == {"accepted": 300}


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_an_environment_that_is_erased_while_its_uses_are_written_takes_no_others_along(world):
    """The row goes between the look at it and the end of the transaction: the foreign key says so then."""
    doomed = EnvironmentFactory(vendor=world.vendor)
    token = world.acme.issue("admin").token
    for environment in (doomed, world.acme.environment):
        gathering.used(
            ApiToken(id=token.id, environment=environment),
            outcome=UsageHour.Outcome.ACCEPTED,
            tenant=None,
            at=NOW,
            ip=None,
        )

    erased = []

    def erase_first(execute, sql, *given):
        if sql.strip().startswith("INSERT INTO apitokens_usagehour") and not erased:
            erased.append(doomed)
            elsewhere(lambda: erase(doomed))
        return execute(sql, *given)

    with connection.execute_wrapper(erase_first):
        gathering.flush(at=NOW)
    assert counts() == {"accepted": 1}


@pytest.mark.process
def test_an_orderly_stop_loses_nothing_and_a_killed_server_no_more_than_it_had_gathered():
    with running_server() as server:
        backend = Backend(server)
        made = backend.make(kind="access_token")

        def call_and(end, times):
            for _ in range(times):
                answer = server.machine().get("/api/v1/token/self", headers=bearer(made["access_token"]))
                assert answer.status_code == 200
            end()
            rows = server.database.rows(
                "SELECT count FROM apitokens_usagehour WHERE outcome = 'accepted' AND token_id IN "
                "(SELECT id FROM apitokens_apitoken WHERE token_id = %s AND last_used_at IS NOT NULL)",
                (made["id"],),
            )
            return sum(count for (count,) in rows)

        assert call_and(server.stop, 20) == 20
        server.start()
        after_kill = call_and(server.kill, 10)
        assert 20 <= after_kill <= 30
        server.start()
        assert call_and(server.stop, 5) == after_kill + 5


def erase(environment):
    at = timezone.now()
    Environment.objects.filter(pk=environment.pk).update(deleted_at=at - timedelta(days=60))
    erasure.erase_due(at=at)
    assert not Environment.objects.filter(pk=environment.pk).exists()


def elsewhere(act):
    """In a connection of its own."""
    thread = threading.Thread(target=lambda: closing(act))
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), "it waits"


def closing(act):
    try:
        act()
    finally:
        connections.close_all()
