"""What an operator relies on: health, counters, headers, outages that say so, commands that keep their word."""

import json
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError, connection
from django.utils import timezone

from apitokens.models import IssueNonce, SigningKey
from config import housekeeping, keyfiles
from tests.cast import basic, bearer, grant, key_state, made_up


@pytest.fixture
def dead_database():
    """A database that answers nothing: every statement fails as it does when the server is gone."""

    def fail(*_):
        raise OperationalError("server closed the connection unexpectedly")

    with connection.execute_wrapper(fail):
        yield


def test_alive_asks_nothing(machine, django_assert_num_queries, db):
    with django_assert_num_queries(0):
        response = machine.get("/healthz")
    assert (response.status_code, response.content) == (200, b"ok")


def test_ready_when_migrated_and_every_environment_can_sign(machine, world):
    response = machine.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"database": True, "migrations": True, "signing_keys": True}


def test_not_ready_when_an_environment_has_no_key_that_signs(machine, world):
    SigningKey.objects.filter(environment=world.staging).update(**key_state("retired"))
    response = machine.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"database": True, "migrations": True, "signing_keys": False}


@pytest.mark.parametrize(
    ("presented", "status"),
    [
        pytest.param(bearer("the metrics token"), 200, id="right"),
        pytest.param(bearer("another"), 401, id="wrong"),
        pytest.param({}, 401, id="none"),
    ],
)
def test_counters_are_for_who_holds_the_metrics_token(machine, acme, settings, presented, status):
    settings.METRICS_TOKEN = "the metrics token"
    grant(machine, acme.issue("owner", kind="client_credentials"))
    response = machine.get("/metrics", headers=presented)
    assert response.status_code == status
    assert (b'tallystick_grants_total{outcome="granted"}' in response.content) == (status == 200)


def test_without_a_metrics_token_there_is_no_such_page(machine, settings, db):
    settings.METRICS_TOKEN = ""
    assert machine.get("/metrics", headers=bearer("")).status_code == 404


def test_without_its_database_the_token_endpoint_says_503_and_when_to_try_again(machine, acme, dead_database):
    response = machine.post(
        "/oauth2/token",
        data="grant_type=client_credentials",
        content_type="application/x-www-form-urlencoded",
        headers=basic("x_y_000000000000", made_up("cs")),
    )
    assert (response.status_code, response["Retry-After"], response["Cache-Control"]) == (503, "5", "no-store")
    assert response.json()["error"] == "temporarily_unavailable"


def test_without_its_database_the_api_says_503_and_when_to_try_again(machine, acme, dead_database):
    response = machine.get("/api/v1/token/self", headers=bearer(made_up("at")))
    assert (response.status_code, response["Retry-After"], response["Cache-Control"]) == (503, "5", "no-store")
    assert (response["Content-Type"], response.json()["code"]) == ("application/problem+json", "unavailable")


def test_every_page_forbids_what_it_does_not_need(acme):
    response = acme.browser("owner").get(acme.url())
    policy = response["Content-Security-Policy"]
    assert "unsafe" not in policy
    for directive in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"):
        assert directive in policy
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Referrer-Policy"] == "same-origin"
    assert "no-store" in response["Cache-Control"]


def test_housekeeping_erases_old_nonces_and_nothing_younger(acme):
    now = timezone.now()
    owner = acme.people["owner"].user_id
    for name, age in (("old", housekeeping.NONCES_KEPT * 2), ("young", housekeeping.NONCES_KEPT / 2)):
        IssueNonce.objects.create(actor_id=owner, digest=name.encode().ljust(32), created_at=now - age)
    call_command("worker", once=True)
    assert [bytes(nonce.digest).strip() for nonce in IssueNonce.objects.all()] == [b"young"]


def test_key_files_are_for_their_owner_alone_and_never_replaced(tmp_path):
    keyfiles.make_missing(tmp_path)
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert keyfiles.make_missing(tmp_path) == []
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="none"),
        pytest.param("1:c2hvcnQ=", id="too-short"),
        pytest.param("one:" + "A" * 44, id="without-number"),
    ],
)
def test_it_does_not_start_with_a_pepper_that_protects_nothing(text):
    with pytest.raises(keyfiles.KeyUnusable):
        keyfiles.parse_peppers(text)


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_are_pinned_with_hashes_and_name_no_host(name):
    text = Path(settings.BASE_DIR, name).read_text()
    assert "://" not in text
    pins = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert pins
    assert all("==" in line for line in pins)
    assert text.count("--hash=sha256:") >= len(pins)


def test_the_npm_packages_of_interop_are_pinned_with_hashes_and_name_no_host():
    text = Path(settings.BASE_DIR, "tests", "interop", "package-lock.json").read_text()
    assert "://" not in text
    packages = [of_it for path, of_it in json.loads(text)["packages"].items() if path]
    assert packages
    assert all(of_it["version"] and of_it["integrity"].startswith("sha512-") for of_it in packages)
