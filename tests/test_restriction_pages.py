"""From where, from when, for which APIs and by which proof: what a token is held to, on its pages."""

import json
import logging
import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
import time_machine
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.test import Client

from apitokens.keys import read_public_key
from apitokens.models import ApiToken, Secret
from audit.models import AuditEvent
from tenants.models import ApiIdentifier
from tests.agreement import answer_to
from tests.answers import text_of
from tests.cast import everything_stored, pem, shown

AT = datetime(2031, 5, 1, 12, 0, 0, tzinfo=UTC)
OTHER = "https://reports.example"
PRIVATE = ec.generate_private_key(ec.SECP256R1())
SECRETS = (serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL)
SIGNING_IN = ("django_session", "accounts_user")


@pytest.fixture(autouse=True)
def frozen():
    with time_machine.travel(AT, tick=False) as clock:
        yield clock


@pytest.fixture
def two_apis(world):
    """The environment's identifiers, the default one first."""
    ApiIdentifier.objects.create(environment=world.production, uri=OTHER, is_default=False)
    return [world.production.api_identifiers.get(is_default=True).uri, OTHER]


def private_pem(form=serialization.PrivateFormat.PKCS8):
    return PRIVATE.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def private_jwk():
    number = PRIVATE.private_numbers().private_value
    return json.dumps({**read_public_key(pem(PRIVATE)), "d": f"{number:x}"})


def make(house, role="admin", **asked):
    return house.make(role, **{"roles": "viewer", "kind": "client_credentials", **asked})


def edit(house, token, role="admin", **fields):
    """The answer to the form *Edit* as it stands, but for these fields."""
    browser, path = house.browser(role), house.url(f"{token.token_id}/edit/")
    page = browser.get(path).content.decode()
    filled = {
        **{
            name: unescape(value)
            for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page)
        },
        "name": token.name,
        "description": token.description,
        "ip_allowlist": "\n".join(token.ip_allowlist),
        "not_before": token.not_before.strftime("%Y-%m-%dT%H:%M") if token.not_before else "",
        "audiences": token.audiences,
    }
    return browser.post(path, {**filled, **fields})


def test_a_new_token_is_held_to_what_is_filled_in(acme, two_apis):
    answer = make(
        acme, ip_allowlist="203.0.113.0/24\n\n2001:db8::/32", not_before="2031-05-02T08:30", audiences=[OTHER]
    )
    assert set(shown(answer)) == {"token_id", "client_id", "client_secret"}
    token = ApiToken.objects.get()
    assert token.ip_allowlist == ["2001:db8::/32", "203.0.113.0/24"]
    assert (token.not_before, token.audiences) == (datetime(2031, 5, 2, 8, 30, tzinfo=UTC), [OTHER])
    text = text_of(acme.browser("admin").get(acme.url(f"{token.token_id}/")))
    for words in (
        "Starts on 2 May 2031, 08:30 UTC",
        "Starts 2 May 2031, 08:30 UTC",
        "Usable from 2001:db8::/32, 203.0.113.0/24",
        f"Only for the APIs {OTHER}",
        "The token is not valid before 2 May 2031.",
    ):
        assert words in text


def test_a_token_that_has_not_begun_says_so_in_the_list_and_its_filter_finds_it(frozen, acme, machine):
    waiting = acme.issue("admin", name="Waiting", not_before=AT + timedelta(days=1))
    acme.issue("admin", name="Working")
    browser = acme.browser("admin")
    page = browser.get(acme.url("?state=not_yet"))
    assert ("Starts on 2 May 2031, 12:00 UTC" in text_of(page), "Working" in text_of(page)) == (True, False)
    assert answer_to(machine, waiting).status_code == 401
    frozen.move_to(AT + timedelta(days=1), tick=False)
    assert "Starts on" not in text_of(acme.browser("admin").get(acme.url()))
    assert answer_to(machine, waiting).status_code == 200


def test_apis_are_offered_only_where_there_is_a_choice(acme):
    browser = acme.browser("admin")
    token = acme.issue("admin").token
    for path in ("new/", f"{token.token_id}/edit/"):
        assert 'name="audiences"' not in browser.get(acme.url(path)).content.decode()
    ApiIdentifier.objects.create(environment=acme.environment, uri=OTHER, is_default=False)
    for path in ("new/", f"{token.token_id}/edit/"):
        page = browser.get(acme.url(path)).content.decode()
        offered = re.findall(r'name="audiences"\s+value="([^"]+)"', page)
        assert offered == [
            *acme.environment.api_identifiers.order_by("-is_default", "uri").values_list("uri", flat=True),
            acme.environment.issuer,
        ]


REFUSED = [
    pytest.param({"ip_allowlist": "somewhere"}, "'somewhere' is not an address or a network", id="network"),
    pytest.param({"not_before": "never"}, "Enter a valid date/time.", id="no-moment"),
    pytest.param({"not_before": "2200-01-01T00:00"}, "more than a hundred years away", id="too-far"),
    pytest.param(
        {"not_before": "2031-06-01T00:00", "expires_in": "604800"}, "expire before it begins", id="never-alive"
    ),
    pytest.param({"audiences": ["https://unknown.example"]}, "Unknown API identifier", id="audience"),
    pytest.param({"proof": "stamp"}, "Choose a secret or a public key.", id="proof"),
    pytest.param({"proof": "public_key"}, "Paste the public key", id="no-key"),
    pytest.param({"proof": "public_key", "public_key": "ssh-ed25519 AAAA"}, "Paste a public key as a JWK", id="no-pem"),
    pytest.param({"public_key": pem(PRIVATE)}, "Choose above that it proves itself by a public key", id="not-chosen"),
    pytest.param(
        {"kind": "access_token", "proof": "public_key", "public_key": pem(PRIVATE)},
        "Only client credentials can have a public key", id="access-token",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "words"), REFUSED)
def test_what_is_refused_is_said_and_everything_typed_stays(acme, two_apis, asked, words):
    before = everything_stored(but=(*SIGNING_IN, "audit_auditevent", "audit_person"))
    answer = make(acme, name="Kept name", description="Kept words", **asked)
    assert (answer.status_code, words in text_of(answer)) == (422, True)
    page = unescape(answer.content.decode())
    assert ("Kept name" in page, "Kept words" in page) == (True, True)
    assert re.search(r'<details class="disclosure" open>', page)
    for name, value in asked.items():
        if name in {"ip_allowlist", "not_before"}:
            assert value in page
    stored = everything_stored(but=(*SIGNING_IN, "audit_auditevent", "audit_person"))
    assert {table for table in stored if stored[table] != before[table]} <= {"django_session", "accounts_user"}


def test_a_client_with_a_public_key_gets_no_secret_and_a_program_that_signs(acme):
    key = pem(ec.generate_private_key(ec.SECP256R1()))
    answer = make(acme, proof="public_key", public_key=key)
    token = ApiToken.objects.get()
    assert (answer.status_code, answer.headers["Location"]) == (302, acme.url(f"{token.token_id}/"))
    secret = Secret.objects.get(token=token)
    assert (secret.public_key, secret.digest) == (read_public_key(key), None)
    text = text_of(acme.browser("admin").get(answer.headers["Location"]))
    for words in (f"Key {secret.public_key['kid']} , ES256", f'CLIENT_ID = "{token.client_id}"', "private-key.pem"):
        assert words in text


def test_sent_twice_a_client_with_a_public_key_is_made_once(acme):
    browser = acme.browser("admin")
    form = {
        **acme.form(browser), "name": "CI", "owner": "tenant", "kind": "client_credentials", "roles": "viewer",
        "proof": "public_key", "public_key": pem(ec.generate_private_key(ec.SECP256R1())),
    }  # fmt: skip
    assert [browser.post(acme.url("new/"), form).status_code for _ in range(2)] == [302, 409]
    assert ApiToken.objects.count() == 1


@pytest.mark.parametrize("page", ["new", "rotate"])
@pytest.mark.parametrize("proof", ["public_key", "secret"])
@pytest.mark.parametrize(
    "pasted", [private_pem(), private_pem(SECRETS[1]), private_jwk()], ids=["pkcs8", "sec1", "jwk"]
)
def test_a_private_key_that_is_pasted_is_refused_and_is_nowhere_afterwards(acme, caplog, page, proof, pasted):
    caplog.set_level(logging.DEBUG)
    client = acme.issue("admin", name="Client", kind="client_credentials")
    fields = {"proof": proof, "public_key": pasted, "name": "", "overlap": "0"}
    browser = acme.browser("admin")
    path = acme.url("new/" if page == "new" else f"{client.token.token_id}/rotate/")
    form = dict(re.findall(r'name="(nonce|csrfmiddlewaretoken)" value="([^"]+)"', browser.get(path).content.decode()))
    answer = browser.post(path, {**form, "owner": "tenant", "kind": "client_credentials", **fields})
    assert (answer.status_code, "This is a private key" in text_of(answer)) == (422, True)
    body = pasted.split("\n")[1] if "\n" in pasted else json.loads(pasted)["d"]
    assert body not in unescape(answer.content.decode())
    assert body not in caplog.text
    assert [table for table, rows in everything_stored().items() if body in str(rows)] == []
    assert ApiToken.objects.count() == 1


# A token that exists


def test_what_a_token_is_held_to_can_be_changed_and_the_record_says_how(acme, two_apis):
    token = acme.issue("admin", ip_allowlist=("203.0.113.0/24",)).token
    answer = edit(acme, token, ip_allowlist="198.51.100.7", not_before="2031-05-02T08:30", audiences=[OTHER])
    assert (answer.status_code, answer.headers["Location"]) == (302, acme.url(f"{token.token_id}/"))
    now = ApiToken.objects.get()
    assert (now.ip_allowlist, now.audiences) == (["198.51.100.7/32"], [OTHER])
    assert now.not_before == datetime(2031, 5, 2, 8, 30, tzinfo=UTC)
    text = text_of(acme.browser("admin").get(acme.url(f"{token.token_id}/")))
    for words in (
        f"APIs + {OTHER}",
        "Networks + 198.51.100.7/32 \N{MINUS SIGN} 203.0.113.0/24",
        "Starts at once → 2 May 2031, 08:30 UTC",
    ):
        assert words in text
    assert edit(acme, now, ip_allowlist="", not_before="", audiences=[]).status_code == 302
    now.refresh_from_db()
    assert (now.ip_allowlist, now.not_before, now.audiences) == ([], None, [])


def test_its_networks_bind_from_the_next_request_on(acme):
    issued = acme.issue("admin")
    inside, outside = Client(REMOTE_ADDR="198.51.100.7"), Client(REMOTE_ADDR="203.0.113.7")
    assert [answer_to(program, issued).status_code for program in (inside, outside)] == [200, 200]
    edit(acme, issued.token, ip_allowlist="198.51.100.0/24")
    assert answer_to(inside, issued).status_code == 200
    assert answer_to(outside, issued).status_code == 401


def test_to_rename_takes_no_rank_and_to_restrict_is_to_grant(acme):
    token = acme.issue("owner", roles=["owner"], ip_allowlist=("203.0.113.0/24",)).token
    assert edit(acme, token, "member", name="Renamed").status_code == 302
    token.refresh_from_db()
    for fields in ({"ip_allowlist": ""}, {"not_before": "2031-05-02T08:30"}):
        refused = edit(acme, token, "member", **fields)
        assert (refused.status_code, "Please correct this first:" in text_of(refused)) == (422, True)
    token.refresh_from_db()
    assert (token.name, token.ip_allowlist, token.not_before) == ("Renamed", ["203.0.113.0/24"], None)


def test_what_is_not_touched_stays_to_the_second(acme):
    begins = AT + timedelta(days=1, seconds=42)
    token = acme.issue("admin", not_before=begins).token
    assert edit(acme, token, name="Renamed").status_code == 302
    assert ApiToken.objects.values_list("name", "not_before").get() == ("Renamed", begins)


def ticked(page):
    """Of the APIs on the page: what a browser would send."""
    boxes = re.findall(r'<input[^>]*name="audiences"[^>]*>', page)
    return [unescape(re.search(r'value="([^"]*)"', box)[1]) for box in boxes if re.search(r"\bchecked\b", box)]


def edit_page(house, token):
    return house.browser("admin").get(house.url(f"{token.token_id}/edit/")).content.decode()


@pytest.mark.parametrize("others", [0, 1], ids=["one-api-left", "two-apis-left"])
def test_an_api_that_is_gone_stays_ticked_until_somebody_unticks_it(acme, two_apis, others):
    token = acme.issue("admin", audiences=(OTHER,)).token
    ApiIdentifier.objects.filter(uri=OTHER).delete()
    for n in range(others):
        ApiIdentifier.objects.create(environment=acme.environment, uri=f"https://{n}.example", is_default=False)
    page = edit_page(acme, token)
    assert (ticked(page), f"{OTHER} (no longer an API here)" in page) == ([OTHER], True)
    assert edit(acme, token, name="Renamed", audiences=ticked(page)).status_code == 302
    assert ApiToken.objects.values_list("name", "audiences").get() == ("Renamed", [OTHER])
    token.refresh_from_db()
    assert edit(acme, token, audiences=[two_apis[0]]).status_code == 302
    assert ApiToken.objects.get().audiences == [two_apis[0]]
    assert OTHER not in re.findall(r'name="audiences"\s+value="([^"]+)"', edit_page(acme, token))


def test_a_token_without_any_api_left_is_not_opened_to_all_by_unticking(acme, two_apis):
    token = acme.issue("admin", audiences=(OTHER,)).token
    ApiIdentifier.objects.filter(uri=OTHER).delete()
    refused = edit(acme, token, name="Renamed", audiences=[])
    assert (refused.status_code, "naming none would mean all of them" in text_of(refused)) == (422, True)
    assert ApiToken.objects.values_list("name", "audiences").get() == ("CI", [OTHER])


def test_of_two_apis_the_one_that_is_gone_can_be_taken_away_alone(acme, two_apis):
    token = acme.issue("admin", audiences=tuple(two_apis)).token
    ApiIdentifier.objects.filter(uri=OTHER).delete()
    assert sorted(ticked(edit_page(acme, token))) == sorted(two_apis)
    assert edit(acme, token, audiences=two_apis[:1]).status_code == 302
    assert ApiToken.objects.get().audiences == two_apis[:1]


def test_what_somebody_else_restricted_meanwhile_is_not_undone_unseen(acme):
    token = acme.issue("admin").token
    browser, path = acme.browser("admin"), acme.url(f"{token.token_id}/edit/")
    form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', browser.get(path).content.decode()))
    assert edit(acme, token, "owner", ip_allowlist="198.51.100.0/24").status_code == 302
    stale = browser.post(path, {**form, "name": "Renamed", "ip_allowlist": ""})
    assert (stale.status_code, 'value="Renamed"' in stale.content.decode()) == (422, True)
    assert ApiToken.objects.values_list("name", "ip_allowlist").get() == ("CI", ["198.51.100.0/24"])
    # Sent once more, it is known.
    form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', stale.content.decode()))
    assert browser.post(path, {**form, "name": "Renamed", "ip_allowlist": ""}).status_code == 302
    assert ApiToken.objects.values_list("name", "ip_allowlist").get() == ("Renamed", [])


def test_a_form_that_changes_nothing_leaves_no_event(acme):
    token = acme.issue("admin", ip_allowlist=("203.0.113.0/24",)).token
    assert edit(acme, token).status_code == 302
    assert not AuditEvent.objects.filter(verb="apitoken.edited").exists()


def test_a_restricted_backend_token_is_changed_in_the_console(world, two_apis):
    office, environment = world.office, world.production
    token = world.acme.issue_for_environment(ip_allowlist=("203.0.113.0/24",)).token
    page = office.page("admin", environment, f"tokens/{token.token_id}/edit/").content.decode()
    assert ("203.0.113.0/24" in page, OTHER in page) == (True, True)
    answer = office.post(
        "admin", environment, f"tokens/{token.token_id}/edit/", name="Backend", ip_allowlist="", audiences=[OTHER]
    )
    assert answer.status_code == 302
    token.refresh_from_db()
    assert (token.ip_allowlist, token.audiences) == ([], [OTHER])
