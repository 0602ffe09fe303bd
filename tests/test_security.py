"""How people sign in: authenticators, recovery codes, sessions. What is kept of them, and what is recorded."""

import re
import struct
import time
from base64 import b32decode
from hashlib import sha1
from hmac import digest
from urllib.parse import urlencode

import pytest
import time_machine
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from cryptography.fernet import Fernet
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from accounts import open_sessions, seeds
from accounts.models import CacheEntry
from audit.models import AuditEvent
from config import housekeeping
from tests.cast import PASSWORD, everything_stored, record_proof, signed_in
from tests.factories import UserFactory

CODES = re.compile(r'id="recovery-codes">([\d\n]+)<')


@pytest.fixture
def pat(db):
    user = UserFactory(email="pat@example.com", name="Pat")
    user.set_password(PASSWORD)
    user.save()
    return user


@pytest.fixture
def own(pat):
    """Signed in, and just confirmed."""
    client = signed_in(pat)
    send(client, "/accounts/confirm/", password=PASSWORD)
    return client


def send(browser: Client, path: str, **fields: object):
    """What a form there would send."""
    if "csrftoken" not in browser.cookies:
        browser.get("/accounts/login/")
    return browser.post(path, fields, headers={"X-CSRFToken": browser.cookies["csrftoken"].value})


def code_of(secret: str, *, later: int = 0) -> str:
    """RFC 6238, from its text: the code of the half minute that is `later` half minutes from now."""
    counter = struct.pack(">Q", int(time.time()) // 30 + later)
    mac = digest(b32decode(secret), counter, sha1)
    at = mac[-1] & 15
    return f"{(struct.unpack('>I', mac[at : at + 4])[0] & 0x7FFFFFFF) % 10**6:06}"


def enrol(browser: Client) -> str:
    page = browser.get("/account/security/app/add/").content.decode()
    secret = re.search(r'data-field="secret">(\w+)<', page)[1]
    answer = send(browser, "/account/security/app/add/", code=code_of(secret))
    assert answer.status_code == 302, answer.content.decode()
    return secret


def recovery_codes(browser: Client) -> list[str]:
    return CODES.search(browser.get("/account/security/recovery-codes/").content.decode())[1].split()


def sign_in(email: str, **second: str) -> Client:
    visitor = Client(enforce_csrf_checks=True)
    answer = send(visitor, "/accounts/login/", login=email, password=PASSWORD)
    if second:
        assert answer.headers["Location"] == "/accounts/login/code/"
        send(visitor, "/accounts/login/code/", **second)
    return visitor


def is_in(visitor: Client) -> bool:
    return visitor.get("/account/").status_code == 200


def told(user) -> list[str]:
    return list(AuditEvent.objects.filter(target_id=user.pk).order_by("at", "id").values_list("verb", flat=True))


def test_with_an_app_a_password_alone_opens_nothing(pat, own):
    secret = enrol(own)
    assert not is_in(sign_in(pat.email))
    assert not is_in(sign_in(pat.email, code="000000"))
    assert is_in(sign_in(pat.email, code=code_of(secret, later=1)))


@pytest.mark.parametrize("wait", [0, 31, 60])
def test_a_code_opens_once_for_as_long_as_it_is_right(pat, own, wait):
    secret = enrol(own)
    with time_machine.travel(timezone.now(), tick=False) as clock:
        code = code_of(secret, later=1)
        assert is_in(sign_in(pat.email, code=code))
        clock.shift(wait)
        assert not is_in(sign_in(pat.email, code=code))
        assert is_in(sign_in(pat.email, code=code_of(secret, later=1 if wait else 0)))


def test_a_recovery_code_opens_once_and_its_use_is_recorded(pat, own):
    enrol(own)
    first, second = recovery_codes(own)[:2]
    assert is_in(sign_in(pat.email, code=first))
    assert not is_in(sign_in(pat.email, code=first))
    assert is_in(sign_in(pat.email, code=second))
    assert told(pat).count("recovery_codes.used") == 2


def test_recovery_codes_are_shown_once(own):
    enrol(own)
    codes = recovery_codes(own)
    assert len(set(codes)) == 10
    again = own.get("/account/security/recovery-codes/").content.decode()
    assert not any(code in again for code in codes)
    assert "10 codes are left" in " ".join(again.split())


def test_new_recovery_codes_end_the_old_ones(pat, own):
    enrol(own)
    old = recovery_codes(own)
    assert send(own, "/account/security/recovery-codes/new/").status_code == 302
    new = recovery_codes(own)
    assert not set(old) & set(new)
    assert not is_in(sign_in(pat.email, code=old[0]))
    assert is_in(sign_in(pat.email, code=new[0]))


def test_no_seed_and_no_recovery_code_lies_open_anywhere(pat, own, caplog):
    page = own.get("/account/security/app/add/").content.decode()
    offered = re.search(r'data-field="secret">(\w+)<', page)[1]
    assert offered not in str(everything_stored())
    secret = enrol(own)
    codes = recovery_codes(own)
    stored = str(everything_stored()) + caplog.text
    assert secret not in stored
    assert not any(code in stored for code in codes)
    rows = {row.type: row for row in Authenticator.objects.filter(user=pat)}
    assert seeds.unseal(rows["totp"].data["secret"]) == secret
    assert seeds.unseal(rows["recovery_codes"].data["seed"]) not in stored


def test_seeds_move_to_a_new_key_encryption_key(pat, own, settings, capsys):
    secret = enrol(own)
    first, second = recovery_codes(own)[:2]
    old, new = settings.KEY_ENCRYPTION_KEYS[0], Fernet.generate_key().decode()
    settings.KEY_ENCRYPTION_KEYS = [new, old]
    call_command("keys")
    assert "Under an old key-encryption key: 0 and 2 seeds of authenticators." in capsys.readouterr().out
    assert is_in(sign_in(pat.email, code=first))
    call_command("keys", "reencrypt")
    said = capsys.readouterr().out
    assert "Seeds of authenticators encrypted anew: 2." in said
    assert "Nothing is under an old key-encryption key" in said
    settings.KEY_ENCRYPTION_KEYS = [new]
    assert is_in(sign_in(pat.email, code=code_of(secret, later=1)))
    assert not is_in(sign_in(pat.email, code=first))
    assert is_in(sign_in(pat.email, code=second))


def test_a_seed_that_no_key_opens_lets_nobody_in(pat, own, settings, capsys):
    secret = enrol(own)
    settings.KEY_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    visitor = sign_in(pat.email)
    assert send(visitor, "/accounts/login/code/", code=code_of(secret, later=1)).status_code == 503
    assert not is_in(visitor)
    call_command("keys")
    said = capsys.readouterr()
    assert "No key-encryption key opens 2 seeds" in said.err
    assert "can go" not in said.out


def test_what_happens_to_authenticators_is_recorded_and_shown_to_their_owner_alone(pat, own, world):
    enrol(own)
    recovery_codes(own)
    send(own, "/account/security/recovery-codes/new/")
    send(own, "/account/security/app/remove/")
    assert told(pat) == ["authenticator.added", *["recovery_codes.made"] * 2, "authenticator.removed"]
    assert set(AuditEvent.objects.filter(target_id=pat.pk).values_list("actor_id", "tenant_id", "environment_id")) == {
        (pat.pk, None, None)
    }
    assert "You set up an authenticator app" in own.get("/account/").content.decode()
    others = world.acme.browser("owner").get("/account/").content.decode()
    assert "You set up an authenticator app" not in others


def test_a_password_is_changed_and_the_other_browsers_are_signed_out(pat, own):
    other = sign_in(pat.email)
    assert is_in(other)
    new = PASSWORD + " and more"
    send(own, "/accounts/password/change/", oldpassword=PASSWORD, password1=new, password2=new)
    assert is_in(own)
    assert not is_in(other)
    assert told(pat) == ["password.changed"]
    assert new not in str(everything_stored())


@pytest.mark.parametrize("path", ["", "app/add/", "app/remove/", "passkeys/add/", "recovery-codes/"])
def test_somebody_vouched_for_elsewhere_gets_nothing_to_sign_in_with_here(pat, path):
    voucher = UserFactory().pk
    vouched = UserFactory(email=None, voucher_id=voucher, voucher_user_id="7", password="!")
    assert signed_in(vouched).get(f"/account/security/{path}").status_code == 404
    page = signed_in(vouched).get("/account/").content.decode()
    assert "/account/security/" not in page
    assert "/accounts/password/change/" not in page


@pytest.mark.parametrize("path", ["app/add/", "passkeys/add/", "recovery-codes/new/"])
def test_authenticators_are_changed_by_who_has_just_confirmed(pat, path):
    """Signing in is not enough: else whoever finds a browser open adds a key of their own."""
    client = signed_in(pat)
    enrolled = Authenticator.objects.create(user=pat, type="totp", data={"secret": seeds.seal("A" * 32)})
    if path == "app/add/":
        enrolled.delete()
    address = f"/account/security/{path}"
    assert client.get(address).headers["Location"] == f"/accounts/confirm/?{urlencode({'next': address})}"
    assert send(client, "/accounts/confirm/", password=PASSWORD).status_code == 302
    assert client.get(address).status_code == 200
    with time_machine.travel(timezone.now().timestamp() + 16 * 60):
        assert client.get(address).status_code == 302


def test_a_passkey_of_somebody_else_can_be_neither_renamed_nor_removed(pat, own):
    other = UserFactory()
    theirs = Authenticator.objects.create(user=other, type="webauthn", data={"name": "Theirs", "credential": {}})
    mine = Authenticator.objects.create(user=pat, type="webauthn", data={"name": "Mine", "credential": {}})
    for pk, status in ((mine.pk, 302), (theirs.pk, 404), (theirs.pk + 99, 404), (2**70, 404)):
        address = f"/account/security/passkeys/{pk}/"
        assert send(own, f"{address}rename/", name="New").status_code == status
        assert send(own, f"{address}remove/").status_code == status
    theirs.refresh_from_db()
    assert theirs.data["name"] == "Theirs"
    assert not Authenticator.objects.filter(pk=mine.pk).exists()


@pytest.mark.parametrize(
    "credential",
    ["", "[]", "1", '"x"', "{}", "null", '{"id": "x"}', '{"response": []}', '{"response": {"userHandle": 1}}',
     '{"response": {"userHandle": "AA"}}', '{"response": {"userHandle": "\\u0000"}}', "{" * 900, "[" * 50_000],
)  # fmt: skip
def test_what_is_no_passkey_opens_nothing_and_breaks_nothing(pat, own, credential):
    visitor = Client(enforce_csrf_checks=True)
    visitor.get("/accounts/login/passkey/", headers={"Accept": "application/json"})
    assert send(visitor, "/accounts/login/passkey/", credential=credential).status_code == 302
    assert not is_in(visitor)
    own.get("/account/security/passkeys/add/")
    assert send(own, "/account/security/passkeys/add/", credential=credential, name="x").status_code in {200, 422}
    assert not Authenticator.objects.exists()


@pytest.mark.parametrize("way", ["login/code", "confirm/code"])
def test_wrong_codes_are_limited_for_all_workers_and_browsers(pat, own, way):
    secret = enrol(own)
    for _ in range(6):
        visitor = sign_in(pat.email) if way == "login/code" else own
        answer = send(visitor, f"/accounts/{way}/", code="000000")
    visitor = sign_in(pat.email) if way == "login/code" else own
    answer = send(visitor, f"/accounts/{way}/", code=code_of(secret, later=1))
    assert answer.status_code == 200
    assert "Too many failed login attempts" in answer.content.decode()
    assert CacheEntry.objects.filter(cache_key__contains="login_failed").exists()


def test_wrong_passwords_are_limited_however_many_others_are_tried_besides(pat):
    visitor = Client(enforce_csrf_checks=True)
    for _ in range(5):
        send(visitor, "/accounts/login/", login=pat.email, password="wrong")
    for number in range(400):
        cache.set(f"somebody-else-{number}", 1, 300)
    answer = send(visitor, "/accounts/login/", login=pat.email, password=PASSWORD)
    assert "Too many failed login attempts" in answer.content.decode()


def test_confirming_by_password_counts_as_signing_in_does(pat):
    client = signed_in(pat)
    for _ in range(5):
        send(client, "/accounts/confirm/", password="wrong")
    answer = send(client, "/accounts/confirm/", password=PASSWORD)
    assert answer.status_code in {200, 429}
    assert client.get("/account/security/app/add/").status_code == 302


def test_a_session_is_ended_from_another_browser(pat):
    here, there = sign_in(pat.email), sign_in(pat.email)
    row = UserSession.objects.get(session_key=there.cookies["sessionid"].value)
    assert send(here, "/account/sessions/", session=row.pk).status_code == 302
    assert not is_in(there)
    assert is_in(here)
    assert not Session.objects.filter(pk=row.session_key).exists()
    assert told(pat) == ["session.ended"]
    assert send(here, "/account/sessions/", session=row.pk).status_code == 302
    assert told(pat) == ["session.ended"]


def test_all_other_sessions_are_ended_at_once(pat):
    here, others = sign_in(pat.email), [sign_in(pat.email) for _ in range(3)]
    assert send(here, "/account/sessions/").status_code == 302
    assert [is_in(each) for each in (here, *others)] == [True, False, False, False]
    assert AuditEvent.objects.get(verb="session.ended").after == {"count": 3}


def test_nobody_ends_anybody_elses_session_nor_their_own_by_number(pat, world):
    here, stranger = sign_in(pat.email), world.acme.browser("owner")
    row = UserSession.objects.get(user=pat)
    send(stranger, "/account/sessions/", session=row.pk)
    for asked in (row.pk, "x", "9" * 400, "-1", "²"):
        assert send(here, "/account/sessions/", session=asked).status_code == 302
    assert is_in(here)
    assert told(pat) == []


def test_sessions_are_listed_in_a_constant_number_of_queries(pat, django_assert_num_queries):
    here = sign_in(pat.email)
    here.get("/account/sessions/")
    for count in (1, 6):
        while UserSession.objects.filter(user=pat).count() < count:
            sign_in(pat.email)
        with django_assert_num_queries(4):
            page = here.get("/account/sessions/").content.decode()
        assert page.count("data-session-id") == count


def test_when_a_browser_was_last_seen_is_noted_every_five_minutes(pat):
    here = sign_in(pat.email)
    signed_in_at = UserSession.objects.get().last_seen_at
    with time_machine.travel(signed_in_at.timestamp() + 60):
        is_in(here)
        assert UserSession.objects.get().last_seen_at == signed_in_at
    with time_machine.travel(signed_in_at.timestamp() + 400):
        is_in(here)
        assert UserSession.objects.get().last_seen_at > signed_in_at


def test_a_session_that_was_ended_meanwhile_does_not_come_back(pat):
    """A request of it was under way, and its answer writes the session."""
    here = sign_in(pat.email)
    store = here.session
    assert store["_auth_user_id"] == str(pat.pk)
    Session.objects.all().delete()
    store["more"] = 1
    with pytest.raises(UpdateError):
        store.save()
    assert not Session.objects.exists()


def test_housekeeping_takes_rows_of_sessions_that_ended(pat):
    here = sign_in(pat.email)
    housekeeping.run()
    assert is_in(here)
    with time_machine.travel(timezone.now().timestamp() + 2 * 86_400):
        housekeeping.run()
        housekeeping.run()
    assert (UserSession.objects.count(), Session.objects.count()) == (0, 0)


def test_with_a_person_go_their_authenticators_and_sessions(pat, own):
    enrol(own)
    other = UserFactory()
    kept = Authenticator.objects.create(user=other, type="totp", data={"secret": "x"})
    sign_in(pat.email)
    call_command("erase_user", str(pat.pk))
    assert not is_in(own)
    assert list(Authenticator.objects.all()) == [kept]
    assert not UserSession.objects.filter(user=pat).exists()
    assert pat.email not in str(everything_stored(but=("cache",)))


@pytest.mark.parametrize(
    ("zone", "is_taken"),
    [("Europe/Berlin", True), ("", True), ("Mars/Olympus", False), ("../etc/passwd", False), ("\0", False)],
)
def test_a_time_zone_is_one_that_exists(own, pat, zone, is_taken):
    answer = send(own, "/account/", name="Pat Q", time_zone=zone)
    assert answer.status_code == (302 if is_taken else 422)
    pat.refresh_from_db()
    assert (pat.name, pat.time_zone) == (("Pat Q", zone) if is_taken else ("Pat", ""))
    assert told(pat) == (["user.edited"] if is_taken else [])


def test_the_e_mail_is_not_to_be_changed_here(own, pat):
    send(own, "/account/", name="Pat", time_zone="", email="other@example.com", is_staff="on")
    pat.refresh_from_db()
    assert (pat.email, pat.is_staff) == ("pat@example.com", False)


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/140.0 Safari/537.36 Edg/140.0", "Edge · Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Safari/604.1", "Safari · iPhone"),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0", "Firefox · Linux"),
        ("curl/8.1", "curl/8.1"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_browser_is_named_as_people_know_it(agent, said):
    assert open_sessions.browser_of(agent) == said


def test_a_proof_of_another_person_in_the_same_browser_counts_for_nobody(world):
    client = world.acme.browser("owner")
    assert client.get(world.acme.url("new/")).status_code == 200
    record_proof(client, world.acme.people["admin"].user)
    assert client.get(world.acme.url("new/")).status_code == 403
