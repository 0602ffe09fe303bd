"""Guessing is stopped, owners are not: what is counted, whom it stops, and that a right secret never meets it (R8)."""

import re
import threading
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import OperationalError, connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apitokens import credentials, limiter, principals, services
from apitokens.models import ApiToken, RefusalCount
from tests.cast import basic, bearer, grant, jwt_of, made_up

NOW = datetime(2026, 5, 4, 10, 30, tzinfo=UTC)
FORM = "application/x-www-form-urlencoded"


def present_opaque(machine, named):
    return machine.get("/api/v1/token/self", headers=bearer(made_up("at", named)))


def present_basic(machine, named):
    return machine.get("/api/v1/token/self", headers=basic(named, made_up("cs")))


def present_at_the_token_endpoint(machine, named):
    return machine.post(
        "/oauth2/token",
        data="grant_type=client_credentials",
        content_type=FORM,
        headers=basic(named, made_up("cs")),
    )


DOORS = [
    pytest.param(present_opaque, "access_token", id="bearer"),
    pytest.param(present_basic, "client_credentials", id="basic"),
    pytest.param(present_at_the_token_endpoint, "client_credentials", id="token-endpoint"),
]


@pytest.fixture
def few(monkeypatch):
    """Limits that a test reaches quickly."""
    monkeypatch.setattr(limiter, "PER_CLIENT", 3)
    monkeypatch.setattr(limiter, "PER_ADDRESS", 6)


def named_by(issued):
    return issued.token.token_id if issued.token.kind == "access_token" else issued.token.client_id


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize(("present", "kind"), DOORS)
def test_the_refusal_after_so_many_is_429_and_says_when_to_come_back(acme, machine, few, present, kind, is_known):
    issued = acme.issue_for_environment(kind=kind)
    named = named_by(issued) if is_known else "nobodyatall1"
    with time_machine.travel(NOW, tick=False):
        assert [present(machine, named).status_code for _ in range(3)] == [401, 401, 401]
        limited = present(machine, named)
    assert (limited.status_code, limited["Retry-After"], limited["Cache-Control"]) == (429, "900", "no-store")
    assert "WWW-Authenticate" not in limited
    words = "Too many wrong credentials. Try again in 900 seconds."
    if present is present_at_the_token_endpoint:
        assert limited.json() == {"error": "temporarily_unavailable", "error_description": words}
    else:
        assert limited["Content-Type"] == "application/problem+json"
        assert limited.json() == {
            "type": "urn:tallystick:problem:too_many_refusals",
            "title": "Too Many Requests",
            "status": 429,
            "detail": words,
            "code": "too_many_refusals",
        }


def test_the_limits_are_fifty_a_client_and_two_hundred_an_address(db):
    by_client = [limiter.refused(client_id="acme", ip=f"192.0.2.{n}", at=NOW) for n in range(51)]
    assert by_client == [None] * 50 + [900]
    by_address = [limiter.refused(client_id=f"client-{n}", ip="198.51.100.7", at=NOW) for n in range(201)]
    assert by_address == [None] * 200 + [900]


def test_a_right_secret_passes_after_a_thousand_wrong_ones(acme, machine):
    issued = acme.issue_for_environment(kind="client_credentials", name="Client")
    opaque = acme.issue("admin", name="Opaque")
    now = timezone.now()
    for named in (issued.token.client_id, opaque.token.token_id):
        for _ in range(500):
            limiter.refused(client_id=named, ip="127.0.0.1", at=now)
    assert present_at_the_token_endpoint(machine, issued.token.client_id).status_code == 429
    assert present_opaque(machine, opaque.token.token_id).status_code == 429
    granted = grant(machine, issued)
    assert granted.status_code == 200
    right = [
        bearer(opaque.plaintext),
        bearer(granted.json()["access_token"]),
        basic(issued.token.client_id, issued.plaintext),
    ]
    assert [machine.get("/api/v1/token/self", headers=sent).status_code for sent in right] == [200, 200, 200]


def test_retry_after_is_honest(acme, machine, few):
    with time_machine.travel(NOW, tick=False) as clock:
        assert [present_opaque(machine, "0" * 12).status_code for _ in range(3)] == [401] * 3
        clock.move_to(NOW + timedelta(minutes=10))
        limited = present_opaque(machine, "0" * 12)
        assert (limited.status_code, limited["Retry-After"]) == (429, "300")
        clock.move_to(NOW + timedelta(minutes=10, seconds=299))
        assert present_opaque(machine, "0" * 12)["Retry-After"] == "1"
        clock.move_to(NOW + timedelta(minutes=10, seconds=300))
        assert present_opaque(machine, "0" * 12).status_code == 401


def test_whose_secret_is_right_but_does_not_work_is_told_why_and_not_limited(acme, machine, few):
    issued = acme.issue("admin")
    ApiToken.objects.update(disabled_at=timezone.now())
    answers = [machine.get("/api/v1/token/self", headers=bearer(issued.plaintext)) for _ in range(10)]
    assert {answer.status_code for answer in answers} == {401}
    assert "It is disabled." in answers[-1].json()["detail"]
    assert not RefusalCount.objects.exists()


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(bearer("nonsense"), id="nonsense"),
        pytest.param({"Authorization": "Basic !!!"}, id="unreadable"),
    ],
)
def test_what_names_nobody_counts_for_its_address_alone(machine, db, few, sent):
    answers = [machine.get("/api/v1/token/self", headers=sent).status_code for _ in range(7)]
    assert answers == [401] * 6 + [429]
    assert RefusalCount.objects.count() == 1


@pytest.mark.parametrize("end", ["disable", "delete"])
def test_whose_jwt_was_ended_is_told_so_however_often_and_gets_a_new_one(acme, machine, few, end):
    issued = acme.issue_for_environment(kind="client_credentials")
    ended = bearer(jwt_of(machine, issued))
    if end == "disable":
        services.disable(by=principals.system(acme.environment), token=issued.token, at=timezone.now())
    else:
        services.delete(by=principals.system(acme.environment), token=issued.token, at=timezone.now())
    forged = bearer("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.")
    for path, send in (("/api/v1/token/self", machine.get), ("/oauth2/introspect", machine.post)):
        body = {"data": "token=x", "content_type": FORM} if send == machine.post else {}
        answers = [send(path, headers=sent, **body).status_code for sent in (ended, forged) for _ in range(10)]
        assert set(answers) == {401}
    assert not RefusalCount.objects.exists()


def wrong_from(address, number, **headers):
    """A wrong secret, each time in another's name, so that only the address is the same."""
    return present_opaque(Client(REMOTE_ADDR=address, headers=headers), f"{number:012}")


@pytest.mark.parametrize(
    ("address", "other"),
    [
        pytest.param(lambda n: f"2001:db8:0:7:{n:x}::1", "2001:db8:0:8::1", id="ipv6-of-one-64"),
        pytest.param(lambda n: ("192.0.2.1", "::ffff:192.0.2.1")[n % 2], "192.0.2.2", id="ipv4-and-mapped"),
        pytest.param(lambda n: "192.0.2.1", "::ffff:192.0.2.2", id="ipv4"),
        pytest.param(lambda n: ("", "unix:")[n % 2], "192.0.2.1", id="no-address"),
    ],
)
def test_an_address_is_told_from_its_neighbours_and_not_from_itself(db, few, address, other):
    assert [wrong_from(address(n), n).status_code for n in range(7)] == [401] * 6 + [429]
    assert wrong_from(other, 99).status_code == 401


def test_a_forged_header_makes_no_new_address(db, few):
    """TRUSTED_PROXIES is 0: nobody in front of us is believed."""
    answers = [wrong_from("192.0.2.1", n, **{"X-Forwarded-For": f"198.51.100.{n}"}) for n in range(7)]
    assert [answer.status_code for answer in answers] == [401] * 6 + [429]


def test_the_case_of_the_scheme_makes_no_difference(db, few, machine):
    schemes = ["Bearer", "bearer", "BEARER", "bEaReR"]
    answers = [
        machine.get("/api/v1/token/self", headers={"Authorization": f"{scheme} {made_up('at')}"}) for scheme in schemes
    ]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]


@pytest.mark.parametrize(
    "path", ["//oauth2/token", "/oauth2//token", "/OAUTH2/token", "/oauth2/token/", "/./oauth2/token"]
)
def test_the_token_endpoint_has_no_other_address(acme, machine, path):
    issued = acme.issue_for_environment(kind="client_credentials")
    answer = machine.generic(
        "POST", "/", data="grant_type=client_credentials", content_type=FORM, PATH_INFO=path,
        headers=basic(issued.token.client_id, issued.plaintext),
    )  # fmt: skip
    assert answer.status_code == 404


def test_strangers_make_no_more_rows_than_there_are_buckets(db, monkeypatch):
    monkeypatch.setattr(limiter, "BUCKETS", 4)
    for n in range(60):
        limiter.refused(client_id=f"stranger-{n}", ip=f"192.0.2.{n}", at=NOW)
    assert RefusalCount.objects.count() <= 8
    assert {row.bucket for row in RefusalCount.objects.all()} <= set(range(8))


def test_nobody_can_tell_which_bucket_is_whose_without_our_key(db, settings):
    limiter.refused(client_id="acme", ip="192.0.2.1", at=NOW)
    before = set(RefusalCount.objects.values_list("bucket", flat=True))
    settings.SECRET_KEY = "another key, of more than fifty characters in all, for this test"
    limiter.refused(client_id="acme", ip="192.0.2.1", at=NOW)
    assert RefusalCount.objects.count() == 4
    assert before < set(RefusalCount.objects.values_list("bucket", flat=True))


def shape(captured):
    """The statements without what was asked for in particular."""
    return [re.sub(r"'[^']*'|\b\d+\b", "?", query["sql"]) for query in captured]


@pytest.mark.parametrize(("present", "kind"), DOORS)
def test_an_unknown_id_costs_what_a_wrong_secret_does(acme, machine, monkeypatch, present, kind):
    issued = acme.issue_for_environment(kind=kind)
    digests = []
    real = credentials.digest
    monkeypatch.setattr(credentials, "digest", lambda *given: digests.append(given) or real(*given))

    def cost(named):
        before = len(digests)
        with CaptureQueriesContext(connection) as captured:
            answer = present(machine, named)
        assert answer.status_code == 401
        return shape(captured), len(digests) - before, answer.content

    known, unknown = cost(named_by(issued)), cost("nobodyatall1")
    assert known == unknown
    # One of the secret that was presented; the other is how this test makes one up.
    assert known[1] == 2


def test_a_database_fault_while_counting_is_503(machine, db):
    def fail(execute, sql, *given):
        if "refusalcount" in sql:
            raise OperationalError("server closed the connection unexpectedly")
        return execute(sql, *given)

    with connection.execute_wrapper(fail):
        answers = [present_opaque(machine, "0" * 12), present_at_the_token_endpoint(machine, "nobody")]
    assert [(answer.status_code, answer["Retry-After"]) for answer in answers] == [(503, "5"), (503, "5")]


def test_how_many_were_limited_is_told_the_operator(machine, db, few, settings):
    settings.METRICS_TOKEN = "the metrics token"

    def limited():
        lines = machine.get("/metrics", headers=bearer("the metrics token")).content.decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("tallystick_refusals_limited_total "))

    before = limited()
    for _ in range(5):
        present_opaque(machine, "0" * 12)
    assert limited() == before + 2


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_refusals_at_the_same_moment_are_all_counted():
    at, errors = timezone.now(), []

    def refuse():
        try:
            for _ in range(25):
                limiter.refused(client_id="acme", ip="192.0.2.1", at=at)
        except Exception as error:  # noqa: BLE001 -- told in the test's own thread
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=refuse) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert list(RefusalCount.objects.values_list("count", flat=True)) == [200, 200]


@pytest.mark.process
@pytest.mark.parametrize("path", ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke", "/api/v1/tokens"])
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(lambda: iter([b"x" * 100_000, b"y" * 100_000]), 411, id="in-chunks"),
        pytest.param(lambda: b"x" * 70_000, 413, id="too-long"),
    ],
)
def test_no_body_is_read_without_a_bound(server, path, sent, status):
    answer = server.machine().post(path, data=sent(), headers={"Content-Type": FORM})
    assert answer.status_code == status
    assert answer.headers["Cache-Control"] == "no-store"
    assert "nothing was read" in answer.text
