"""The life of a signing key: published, active, retiring, retired; or compromised. And who may have a say in it."""

import re
from datetime import timedelta
from io import StringIO

import jwt as pyjwt
import pytest
import time_machine
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import InterfaceError, OperationalError
from django.test import Client
from django.utils import timezone

from accounts import sealing
from apitokens import keyring
from apitokens.governance import signing_keys
from apitokens.models import DAY, HOUR, SigningKey, TokenType, TokenTypeRole
from apitokens.principals import system
from audit.models import AuditEvent
from config import keyfiles
from config.management.commands import worker
from tests.cast import bearer, iso, jwt_of
from tests.racing import Call, held, wait_for_blocked

LEAD = timedelta(minutes=10)
# The longest that a JWT lives here, and the leeway.
KEPT = timedelta(hours=1, minutes=5)
SECOND = timedelta(seconds=1)


@pytest.fixture
def clock():
    with time_machine.travel((timezone.now() + SECOND).replace(microsecond=0), tick=False) as clock:
        yield clock


@pytest.fixture
def production(world):
    return world.production


@pytest.fixture
def client(acme):
    return acme.issue("admin", kind="client_credentials", expires_at=timezone.now() + timedelta(days=300))


def key_in(environment, state):
    return SigningKey.objects.get(environment=environment, state=state)


def states(environment):
    rows = SigningKey.objects.filter(environment=environment).order_by("created_at", "id")
    return list(rows.values_list("state", flat=True))


def published_kids(environment):
    answer = Client().get(f"/e/{environment.slug}/jwks.json")
    return {key["kid"] for key in answer.json()["keys"]}


def rotate(office, environment, role="admin"):
    return office.api(role, "POST", "signing-keys", environment=environment)


def compromise(office, key, role="admin"):
    return office.api(role, "POST", f"signing-keys/{key.kid}/compromised", environment=key.environment)


def accepts(jwt):
    return Client().get("/api/v1/token/self", headers=bearer(jwt)).status_code == 200


def signed_by(jwt):
    return pyjwt.get_unverified_header(jwt)["kid"]


def verbs(environment):
    rows = AuditEvent.objects.filter(environment_id=environment.id, target_kind="signing_key")
    return list(rows.order_by("at", "id").values_list("verb", "actor_kind"))


def _listed(key, **more):
    fields = ("created_at", "active_from", "retiring_from", "ended_at")
    return {
        "kid": key.kid,
        "algorithm": key.algorithm,
        "state": key.state,
        **{name: iso(getattr(key, name)) for name in fields},
        "verifies_until": None,
        "public_jwk": key.public_jwk,
        **more,
    }


def test_a_key_is_published_then_signs_then_verifies_then_is_gone(clock, production, office, client):
    first = key_in(production, "active")
    began = timezone.now()
    old_jwt = jwt_of(Client(), client)
    answer = rotate(office, production)
    second = key_in(production, "published")
    assert (answer.status_code, answer.json()) == (201, _listed(second))
    assert (second.created_at, second.active_from) == (began, began + LEAD)
    assert published_kids(production) == {first.kid, second.kid}

    clock.shift(LEAD - SECOND)
    call_command("worker", once=True)
    assert (states(production), signed_by(jwt_of(Client(), client))) == (["active", "published"], first.kid)

    clock.shift(SECOND)
    call_command("worker", once=True)
    assert states(production) == ["retiring", "active"]
    took_over = timezone.now()
    new = jwt_of(Client(), client)
    assert (signed_by(old_jwt), signed_by(new)) == (first.kid, second.kid)
    assert accepts(old_jwt)
    assert accepts(new)
    assert published_kids(production) == {first.kid, second.kid}
    first.refresh_from_db()
    second.refresh_from_db()
    assert office.api("auditor", "GET", "signing-keys", environment=production).json() == {
        "next": None,
        "previous": None,
        "results": [_listed(second), _listed(first, verifies_until=iso(took_over + KEPT))],
    }

    clock.shift(KEPT - SECOND)
    call_command("worker", once=True)
    assert states(production) == ["retiring", "active"]
    clock.shift(SECOND)
    call_command("worker", once=True)
    first.refresh_from_db()
    assert (first.state, first.ended_at) == ("retired", took_over + KEPT)
    assert published_kids(production) == {second.kid}
    assert verbs(production) == [
        ("signing_key.published", "user"),
        ("signing_key.replaced", "system"),
        ("signing_key.activated", "system"),
        ("signing_key.retired", "system"),
    ]


def test_as_long_as_nobody_moves_the_keys_nothing_breaks(clock, production, office, client):
    old = signed_by(jwt_of(Client(), client))
    rotate(office, production)
    clock.shift(timedelta(days=40))
    jwt = jwt_of(Client(), client)
    assert (signed_by(jwt), accepts(jwt)) == (old, True)
    page = office.page("auditor", production, "keys/").content.decode()
    assert "is the worker running?" in page
    signing_keys.move(at=timezone.now())
    assert accepts(jwt)
    assert signed_by(jwt_of(Client(), client)) != old


def test_a_step_is_taken_once_however_often_it_is_asked_for(clock, production, office):
    rotate(office, production)
    clock.shift(LEAD)
    assert [signing_keys.move(at=timezone.now()) for _ in range(3)] == [1, 0, 0]
    clock.shift(KEPT)
    assert [signing_keys.move(at=timezone.now()) for _ in range(3)] == [1, 0, 0]
    assert len(verbs(production)) == 4


def test_a_second_rotation_waits_for_the_first(clock, production, office):
    rotate(office, production)
    waiting = key_in(production, "published")
    refused = rotate(office, production)
    assert (refused.status_code, refused.json()["code"]) == (409, "successor_waits")
    assert waiting.kid[:8] in refused.json()["detail"]
    page = office.page("owner", production, "keys/rotate/").content.decode()
    assert "A rotation has begun already" in page
    assert office.post("owner", production, "keys/rotate/").status_code == 409
    assert states(production) == ["active", "published"]
    clock.shift(LEAD)
    signing_keys.move(at=timezone.now())
    assert rotate(office, production).status_code == 201


def test_the_key_set_has_a_bound(clock, production, office, monkeypatch):
    monkeypatch.setattr(signing_keys, "MOST_VERIFYING", 2)
    rotate(office, production)
    clock.shift(LEAD)
    signing_keys.move(at=timezone.now())
    refused = rotate(office, production)
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_keys")
    clock.shift(KEPT)
    signing_keys.move(at=timezone.now())
    assert rotate(office, production).status_code == 201


def lower_type(office, production, lifetime):
    path = "token-types/tenant/client_credentials"
    answer = office.api("owner", "PATCH", path, {"jwt_lifetime": lifetime}, environment=production)
    assert answer.status_code == 200, answer.content


def lower_by_copying(office, production, lifetime):
    source = production.vendor.environments.exclude(pk=production.pk).get()
    TokenType.objects.filter(environment=source).update(jwt_lifetime=lifetime)
    answer = office.api("owner", "POST", f"environments/{production.slug}/copy", {"from": source.slug})
    assert answer.status_code == 200, answer.content


@pytest.mark.parametrize("lower", [lower_type, lower_by_copying])
def test_a_lifetime_that_was_lowered_since_does_not_retire_the_key_too_early(clock, production, office, client, lower):
    lower_type(office, production, 20 * DAY)
    jwt = jwt_of(Client(), client)
    lower(office, production, HOUR)
    old = key_in(production, "active")
    rotate(office, production)
    clock.shift(LEAD)
    signing_keys.move(at=timezone.now())
    clock.shift(timedelta(days=20) - LEAD - SECOND)
    signing_keys.move(at=timezone.now())
    assert (old.kid in published_kids(production), accepts(jwt)) == (True, True)
    clock.shift(timedelta(minutes=20))
    signing_keys.move(at=timezone.now())
    assert published_kids(production) == {key_in(production, "active").kid}


def test_what_was_lowered_before_a_key_signed_does_not_keep_it(clock, production, office):
    lower_type(office, production, 20 * DAY)
    lower_type(office, production, HOUR)
    clock.shift(timedelta(minutes=10))
    for wait in (LEAD, LEAD):
        rotate(office, production)
        clock.shift(wait)
        signing_keys.move(at=timezone.now())
    second = SigningKey.objects.filter(environment=production).order_by("created_at")[1]
    assert keyring.ends_of([second])[second.id] == second.retiring_from + KEPT


def test_a_compromised_key_is_dead_at_once_and_another_signs(clock, production, office, client):
    jwt, leaked = jwt_of(Client(), client), key_in(production, "active")
    answer = compromise(office, leaked)
    leaked.refresh_from_db()
    assert (answer.status_code, answer.json()) == (200, _listed(leaked))
    assert (leaked.state, leaked.ended_at) == ("compromised", timezone.now())
    assert not accepts(jwt)
    successor = key_in(production, "active")
    assert published_kids(production) == {successor.kid}
    new = jwt_of(Client(), client)
    assert (signed_by(new), accepts(new)) == (successor.kid, True)
    assert verbs(production) == [("signing_key.compromised", "user"), ("signing_key.activated", "user")]


def test_the_one_that_waits_takes_over_from_a_compromised_key(clock, production, office, client):
    leaked = key_in(production, "active")
    rotate(office, production)
    waiting = key_in(production, "published")
    page = office.page("owner", production, f"keys/{leaked.kid}/compromised/").content.decode()
    assert f"{waiting.kid[:8]}…”, which is published already, signs from this moment on" in page
    assert compromise(office, leaked).status_code == 200
    assert states(production) == ["compromised", "active"]
    assert key_in(production, "active").kid == waiting.kid
    assert (published_kids(production), signed_by(jwt_of(Client(), client))) == ({waiting.kid}, waiting.kid)
    clock.shift(LEAD)
    assert signing_keys.move(at=timezone.now()) == 0


def test_a_compromised_key_that_waits_or_retires_just_dies(clock, production, office, client):
    jwt, first = jwt_of(Client(), client), key_in(production, "active")
    rotate(office, production)
    waiting = key_in(production, "published")
    assert compromise(office, waiting).json()["active_from"] is None
    assert (states(production), accepts(jwt)) == (["active", "compromised"], True)
    rotate(office, production)
    clock.shift(LEAD)
    assert signing_keys.move(at=timezone.now()) == 1
    seconds = jwt_of(Client(), client)
    assert (accepts(jwt), accepts(seconds)) == (True, True)
    assert compromise(office, first).status_code == 200
    assert (key_in(production, "active").kid in published_kids(production), accepts(jwt)) == (True, False)
    # With all that were issued before, for those who read the status list and hold an older JWKS.
    assert (accepts(seconds), accepts(jwt_of(Client(), client))) == (False, True)
    assert sorted(states(production)) == ["active", "compromised", "compromised"]


@pytest.mark.parametrize("state", ["retired", "compromised"])
def test_nothing_is_left_to_declare_of_a_key_that_is_over(production, office, state):
    key = key_in(production, "active")
    signing_keys.compromise(by=system(production), key=key, typed=key.kid, at=timezone.now())
    SigningKey.objects.filter(pk=key.pk).update(state=state)
    answer = compromise(office, key)
    assert (answer.status_code, answer.json()["code"]) == (409, "already_so")
    page = office.page("owner", production, f"keys/{key.kid}/compromised/").content.decode()
    assert "Nothing that it signed is believed any more." in page
    assert "Declare it compromised" not in page


def test_a_private_part_is_kept_only_while_its_key_may_sign(clock, production, office):
    rotate(office, production)
    clock.shift(LEAD)
    signing_keys.move(at=timezone.now())
    compromise(office, key_in(production, "active"))
    left = {key.state: bool(key.private_key_encrypted) for key in SigningKey.objects.filter(environment=production)}
    assert left == {"retiring": False, "compromised": False, "active": True}


def test_who_means_a_key_types_how_its_id_begins(production, office):
    key = key_in(production, "active")
    path = f"keys/{key.kid}/compromised/"
    for typed in ("", key.kid[:7], "x" * 8, key.kid + "x"):
        refused = office.post("owner", production, path, name=typed)
        assert refused.status_code == 422, typed
    assert states(production) == ["active"]
    assert office.post("owner", production, path, name=f" {key.kid[:8]} ").status_code == 302
    assert states(production) == ["compromised", "active"]


@pytest.mark.parametrize(
    ("held", "rotated", "compromised"),
    [
        ((), 403, 403),
        (("signing-keys:read",), 403, 403),
        (("signing-keys:read", "signing-keys:create"), 201, 403),
        (("signing-keys:read", "signing-keys:delete"), 403, 200),
    ],
)
def test_a_token_does_what_it_holds(production, acme, held, rotated, compromised):
    token = acme.issue_for_environment(roles=(), permissions=("tenants:read", *held)).plaintext
    key = key_in(production, "active")
    answers = [
        Client().post("/api/v1/signing-keys", headers=bearer(token)),
        Client().post(f"/api/v1/signing-keys/{key.kid}/compromised", headers=bearer(token)),
    ]
    assert [answer.status_code for answer in answers] == [rotated, compromised]
    assert Client().get("/api/v1/signing-keys", headers=bearer(token)).status_code == (200 if held else 403)


@pytest.mark.parametrize("kid", ["never", "a" * 43, "a" * 42 + "%00", "..%2F" * 5])
def test_a_key_of_another_environment_is_like_one_that_never_was(world, office, kid):
    theirs = key_in(world.staging, "active")
    for named in (theirs.kid, kid):
        answer = office.api("owner", "POST", f"signing-keys/{named}/compromised", environment=world.production)
        assert answer.status_code == 404
        assert office.page("owner", world.production, f"keys/{named}/compromised/").status_code == 404
    assert states(world.staging) == ["active"]


@pytest.mark.parametrize("algorithm", ["RS256", "EdDSA"])
def test_the_algorithm_is_that_of_keys_to_come(clock, production, office, client, algorithm):
    settings_form = {
        "name": "Production",
        "colour": "blue",
        "api_identifiers": "https://api.example",
        "strict_ceiling": "on",
        "reauthenticate_after_0": "15",
        "reauthenticate_after_1": "60",
    }
    saved = office.post("owner", production, "settings/", **settings_form, signing_algorithm=algorithm)
    assert saved.status_code == 302
    old, page = key_in(production, "active"), office.page("owner", production, "keys/").content.decode()
    assert (old.algorithm, states(production)) == ("ES256", ["active"])
    assert f"The next key will be one for {algorithm}." in page
    assert "Rotate now…" in office.page("owner", production, "settings/").content.decode()
    assert signed_by(jwt_of(Client(), client)) == old.kid
    assert office.post("owner", production, "keys/rotate/").status_code == 302
    assert "The next key will be" not in office.page("owner", production, "keys/").content.decode()
    clock.shift(LEAD)
    signing_keys.move(at=timezone.now())
    jwt = jwt_of(Client(), client)
    assert (pyjwt.get_unverified_header(jwt)["alg"], accepts(jwt)) == (algorithm, True)


def test_an_environment_is_born_with_a_key_of_its_algorithm(world, office):
    new = {"name": "Trial", "slug": "acorn-trial", "audience": "https://trial.example", "signing_algorithm": "EdDSA"}
    answer = office.api("owner", "POST", "environments", new, environment=world.production)
    assert (answer.status_code, answer.json()["signing_algorithm"]) == (201, "EdDSA")
    (key,) = Client().get("/e/acorn-trial/jwks.json").json()["keys"]
    assert (key["alg"], key["kty"], key["crv"]) == ("EdDSA", "OKP", "Ed25519")


def test_the_key_set_is_cached_for_as_long_as_a_key_waits_twice(production, office, settings):
    settings.JWKS_MAX_AGE = 7
    answer = Client().get(f"/e/{production.slug}/jwks.json")
    assert answer.headers["Cache-Control"] == "public, max-age=7"
    rotate(office, production)
    key = key_in(production, "published")
    assert key.active_from - key.created_at == timedelta(seconds=14)
    changed = Client().get(f"/e/{production.slug}/jwks.json", headers={"If-None-Match": answer.headers["ETag"]})
    assert changed.status_code == 200
    assert {name for each in changed.json()["keys"] for name in each} == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    same = Client().get(f"/e/{production.slug}/jwks.json", headers={"If-None-Match": changed.headers["ETag"]})
    assert (same.status_code, same.content) == (304, b"")


def test_the_page_tells_each_key_its_story(clock, production, office):
    rotate(office, production)
    clock.shift(LEAD)
    signing_keys.move(at=timezone.now())
    rotate(office, production)
    page = " ".join(office.page("auditor", production, "keys/").content.decode().split())
    told = re.findall(r"<li>([A-Z][a-z]+(?: [a-z]+)?) <time", page)
    assert told == [
        "Published",
        "Signs from",
        "Published",
        "Signs since",
        "Published",
        "Signed from",
        "Signed until",
        "Verifies until",
    ]
    assert "Compromised…" not in page
    assert "Compromised…" in office.page("admin", production, "keys/").content.decode()


def test_the_ring_is_listed_a_page_at_a_time_in_a_constant_number_of_queries(
    clock, production, office, django_assert_max_num_queries
):
    for _ in range(4):
        rotate(office, production)
        clock.shift(LEAD)
        signing_keys.move(at=timezone.now())
    browser = office.browser("owner")
    with django_assert_max_num_queries(8):
        page = browser.get(f"/api/v1/signing-keys?environment={production.slug}&page_size=2").json()
    assert ([row["state"] for row in page["results"]], page["previous"]) == (["active", "retiring"], None)
    rest = browser.get(page["next"]).json()
    assert [row["state"] for row in rest["results"]] == ["retiring", "retiring"]


def test_events_about_keys_are_told_in_words_and_hold_no_private_part(clock, production, office):
    rotate(office, production)
    clock.shift(LEAD)
    signing_keys.move(at=timezone.now())
    kid = key_in(production, "active").kid
    page = office.page("owner", production, "audit/").content.decode()
    for words in (
        "Published the next signing key",
        "Let the signing key take over",
        "Let the signing key sign no more",
    ):
        assert words in page
    assert f"{kid[:8]}…" in page
    held = {name for event in AuditEvent.objects.filter(target_kind="signing_key") for name in event.after}
    assert held == {"kid", "algorithm", "state", "active_from", "retiring_from"}


# The operator's commands


def run(command, *arguments):
    out = StringIO()
    call_command(command, *arguments, stdout=out, stderr=out)
    return out.getvalue()


def test_the_operator_sees_and_moves_the_keys(clock, world, office):
    slug, first = world.production.slug, key_in(world.production, "active").kid
    assert f"it signs from {timezone.now() + LEAD:%Y-%m-%d %H:%M:%S} UTC" in run(
        "keys", "rotate", "--environment", slug
    )
    with pytest.raises(CommandError, match="A rotation has begun already"):
        run("keys", "rotate", "--environment", slug)
    assert run("keys", "move") == "Nothing was due.\n"
    clock.shift(LEAD)
    assert run("keys", "move") == "Keys moved: 1.\n"
    second = key_in(world.production, "active").kid
    listed = run("keys", "--environment", slug)
    assert f"{second}  ES256  active, signs since" in listed
    assert f"{first}  ES256  retiring, signed until" in listed
    assert world.staging.slug not in listed
    assert world.staging.slug in run("keys")
    told = run("keys", "compromised", second)
    assert f"{key_in(world.production, 'active').kid} signs for Production." in told
    with pytest.raises(CommandError, match="compromised already"):
        run("keys", "compromised", second)
    with pytest.raises(CommandError, match="There is no signing key nonsense"):
        run("keys", "compromised", "nonsense")
    with pytest.raises(CommandError, match=f"There is no environment nowhere. There are: .*{slug}"):
        run("keys", "rotate", "--environment", "nowhere")


def test_a_key_id_that_looks_like_an_option_is_taken_for_a_key_id(production):
    SigningKey.objects.filter(environment=production).update(kid="-v" + "0" * 41)
    assert "is dead" in run("keys", "compromised", "-v" + "0" * 41)


def test_private_parts_move_to_a_new_key_encryption_key_and_the_old_one_can_go(world, client, settings):
    old, new = settings.KEY_ENCRYPTION_KEYS[0], Fernet.generate_key().decode()
    settings.KEY_ENCRYPTION_KEYS = [new, old]
    assert "Under an old key-encryption key: 2." in run("keys")
    assert run("keys", "reencrypt") == (
        "Private parts encrypted anew: 2.\nSeeds of authenticators encrypted anew: 0.\n"
        "Client secrets of single sign-on encrypted anew: 0.\n"
        "Nothing is under an old key-encryption key: the 1 behind the first can go.\n"
    )
    assert run("keys", "reencrypt").startswith("Private parts encrypted anew: 0.")
    settings.KEY_ENCRYPTION_KEYS = [new]
    assert accepts(jwt_of(Client(), client))
    settings.KEY_ENCRYPTION_KEYS = [old]
    assert run("keys").count("No key-encryption key opens") == 2
    with pytest.raises(sealing.SealUnreadable):
        sealing.reseal(bytes(key_in(world.production, "active").private_key_encrypted), [old])


def test_a_new_key_encryption_key_is_put_before_the_others_in_the_file(tmp_path, settings):
    keyfiles.make_missing(tmp_path)
    settings.VAR_DIR, path = tmp_path, tmp_path / "key-encryption-keys"
    before = path.read_text().strip()
    assert "keys reencrypt" in run("keys", "add-encryption-key")
    first, second = keyfiles.parse_fernet_keys(path.read_text())
    assert (second, first != before, path.stat().st_mode & 0o777) == (before, True, 0o600)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(keyfiles.MAKERS)


def test_a_key_encryption_key_from_the_environment_is_printed_to_be_set_there(tmp_path, settings, monkeypatch):
    settings.VAR_DIR = tmp_path
    monkeypatch.setenv("KEY_ENCRYPTION_KEYS", settings.KEY_ENCRYPTION_KEYS[0])
    told = run("keys", "add-encryption-key")
    printed = re.search(r"^  (\S+),$", told, re.MULTILINE)[1]
    assert len(keyfiles.parse_fernet_keys(printed)) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_half_erased_environment_keeps_no_key_for_ever(clock, production, world, office):
    for environment in (production, world.staging):
        rotate(office, environment)
    clock.shift(LEAD)
    call_command("worker", once=True)
    TokenTypeRole.objects.filter(environment=production).delete()
    TokenType.objects.filter(environment=production).delete()
    clock.shift(KEPT)
    call_command("worker", once=True)
    assert (states(production), states(world.staging)) == (["retired", "active"], ["retired", "active"])


def failing_in(environment, monkeypatch, error):
    real = signing_keys._move

    def move(each, at):
        if each == environment:
            raise error
        return real(each, at)

    monkeypatch.setattr(signing_keys, "_move", move)


def test_an_environment_in_which_something_is_wrong_keeps_no_other_waiting(clock, world, office, monkeypatch, caplog):
    bad, good = sorted([world.production, world.staging], key=lambda environment: environment.pk)
    for environment in (bad, good):
        rotate(office, environment)
    clock.shift(LEAD)
    failing_in(bad, monkeypatch, ValueError("nobody thought of this"))
    assert signing_keys.move(at=timezone.now()) == 1
    assert (states(bad), states(good)) == (["active", "published"], ["retiring", "active"])
    (line,) = [line for line in caplog.records if line.levelname == "ERROR"]
    assert (line.message, line.exc_info[0]) == (f"the signing keys of environment {bad.pk} were not moved", ValueError)


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_a_database_that_is_away_is_said_to_the_worker(clock, production, office, monkeypatch, error):
    rotate(office, production)
    clock.shift(LEAD)
    failing_in(production, monkeypatch, error("gone"))
    with pytest.raises(error):
        signing_keys.move(at=timezone.now())
    call_command("worker", once=True)
    assert states(production) == ["active", "published"]


def test_a_step_of_the_worker_that_fails_keeps_no_other_waiting(db, monkeypatch, caplog):
    done = []

    def fail(*, at):
        raise ValueError("nobody thought of this")

    def work(*, at):
        done.append(at)
        return 0

    monkeypatch.setattr(worker, "ROUND", {"this": fail, "that": work})
    call_command("worker", once=True)
    assert len(done) == 1
    assert [(line.message, line.exc_info[0]) for line in caplog.records if line.levelname == "ERROR"] == [
        ("this failed", ValueError)
    ]


# At the same time


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_several_workers_take_a_step_once(world):
    environment = world.production
    signing_keys.rotate(by=system(environment), environment=environment, at=timezone.now() - LEAD)
    due = timezone.now()
    with held(environment):
        calls = [Call(lambda: signing_keys.move(at=due)) for _ in range(4)]
        wait_for_blocked(4)
    assert sorted(call.result() for call in calls) == [0, 0, 0, 1]
    assert sorted(states(environment)) == ["active", "retiring"]
    assert [verb for verb, _ in verbs(environment)].count("signing_key.activated") == 1


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_key_is_compromised_and_due_at_the_same_time_and_one_key_signs(world):
    environment = world.production
    waiting = signing_keys.rotate(by=system(environment), environment=environment, at=timezone.now() - LEAD)
    leaked, at = key_in(environment, "active"), timezone.now()
    acts = [
        lambda: signing_keys.move(at=at),
        lambda: signing_keys.compromise(by=system(environment), key=leaked, typed=leaked.kid, at=at),
        lambda: signing_keys.compromise(by=system(environment), key=waiting, typed=waiting.kid, at=at),
    ]
    with held(environment):
        calls = [Call(act) for act in acts]
        wait_for_blocked(len(acts))
    for call in calls:
        call.result()
    assert sorted(states(environment)) == ["active", "compromised", "compromised"]
    assert key_in(environment, "active").kid not in {leaked.kid, waiting.kid}


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_two_rotations_at_once_one_is_refused(world):
    environment = world.production

    def begin():
        try:
            return signing_keys.rotate(by=system(environment), environment=environment, at=timezone.now())
        except signing_keys.SuccessorWaits:
            return None

    with held(environment):
        calls = [Call(begin) for _ in range(2)]
        wait_for_blocked(2)
    assert [call.result() for call in calls].count(None) == 1
    assert states(environment) == ["active", "published"]
