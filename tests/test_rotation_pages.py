"""R7 on pages: rotate with an overlap, see which secret is in use, complete, cancel, or say that it leaked."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
import time_machine
from cryptography.hazmat.primitives.asymmetric import ec
from django.test import Client

from apitokens import gathering
from apitokens.models import DAY, ApiToken, Secret, TokenType
from apitokens.services import Issued
from tests.agreement import answer_to
from tests.answers import text_of
from tests.cast import bearer, everything_stored, grant, jwt_of, pem, record_proof, shown

AT = datetime(2031, 5, 1, 12, 0, 0, tzinfo=UTC)
FROM = "192.0.2.7"
SECRET = {"access_token": "access_token", "client_credentials": "client_secret"}
KINDS = tuple(SECRET)
OVERLAP = re.compile(r'<input type="radio"\s+name="overlap"\s+value="(\w+)".*?>', re.DOTALL)
SIGNING_IN = ("django_session", "accounts_user")


@pytest.fixture(autouse=True)
def frozen():
    with time_machine.travel(AT, tick=False) as clock:
        yield clock


class Pages:
    """Ada's browser at the pages of one token."""

    def __init__(self, house, issued, role="admin"):
        self.house, self.issued, self.browser = house, issued, house.browser(role)
        self.user = house.people[role].user

    def confirm(self):
        record_proof(self.browser, self.user)

    def url(self, page=""):
        return self.house.url(f"{self.issued.token.token_id}/{page}")

    def get(self, page=""):
        answer = self.browser.get(self.url(page))
        assert answer.status_code == 200, answer
        return unescape(answer.content.decode())

    def form(self):
        return self.house.form(self.browser, f"{self.issued.token.token_id}/rotate/")

    def post(self, page, **fields):
        return self.browser.post(self.url(page), {**self.form(), **fields})

    def rotate(self, **fields):
        """The token with the new secret that the page shows."""
        answer = self.post("rotate/", **fields)
        assert answer.status_code == 200, answer.content.decode()
        return Issued(token=self.issued.token, plaintext=shown(answer)[SECRET[self.issued.token.kind]])


@pytest.fixture(params=KINDS)
def old(request, acme):
    return acme.issue("admin", kind=request.param)


@pytest.fixture
def pages(acme, old):
    return Pages(acme, old)


def works(*issued):
    return [answer_to(Client(), each).status_code == 200 for each in issued]


def use(issued, address=FROM):
    """At the token endpoint or at the API, from there; and noted at once."""
    program = Client(REMOTE_ADDR=address)
    if issued.token.kind == "client_credentials":
        assert grant(program, issued).status_code == 200
    else:
        assert program.get("/api/v1/token/self", headers=bearer(issued.plaintext)).status_code == 200
    gathering.flush(at=datetime.now(UTC))


def test_both_secrets_work_until_the_deadline_that_the_page_names(frozen, pages, old):
    answer = pages.post("rotate/", overlap="3600")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (
        200,
        "max-age=0, no-cache, no-store, must-revalidate, private",
    )
    assert "Both work until 1 May 2031, 13:00 UTC." in text_of(answer)
    new = Issued(token=old.token, plaintext=shown(answer)[SECRET[old.token.kind]])
    assert works(old, new) == [True, True]
    frozen.move_to(AT + timedelta(hours=1), tick=False)
    assert works(old, new) == [False, True]


def test_with_no_overlap_the_old_one_stops_and_the_page_says_so(pages, old):
    answer = pages.post("rotate/", overlap="0")
    assert "The old one does not work any more." in text_of(answer)
    assert works(old, Issued(token=old.token, plaintext=shown(answer)[SECRET[old.token.kind]])) == [False, True]


def test_said_to_have_leaked_whatever_overlap_is_chosen_the_old_one_and_its_jwts_end(acme, machine):
    client = acme.issue("admin", kind="client_credentials")
    jwt = jwt_of(machine, client)
    assert machine.get("/api/v1/token/self", headers=bearer(jwt)).status_code == 200
    new = Pages(acme, client).rotate(overlap=str(DAY), compromised="on")
    assert works(client, new) == [False, True]
    assert machine.get("/api/v1/token/self", headers=bearer(jwt)).status_code == 401


def offered(page):
    """{seconds: whether it can be chosen}, and which one is."""
    options = [(found[1], found[0]) for found in OVERLAP.finditer(page)]
    (chosen,) = [value for value, tag in options if "checked" in tag]
    return {value: "disabled" not in tag for value, tag in options}, chosen


@pytest.mark.parametrize(
    ("longest", "lifetime", "possible", "chosen", "words"),
    [
        pytest.param(
            30 * DAY, None, {"0", "3600", "86400", "604800", "longest"}, "86400",
            "As long as possible: 30 days", id="all",
        ),
        pytest.param(
            7 * DAY, None, {"0", "3600", "86400", "604800"}, "86400", "24 hours (recommended)", id="up-to-a-preset",
        ),
        pytest.param(7200, None, {"0", "3600", "longest"}, "longest", "The vendor allows at most 2 hours.", id="limit"),
        pytest.param(0, None, {"0"}, "0", "The vendor allows at most 0 seconds.", id="none"),
        pytest.param(
            30 * DAY, 2 * DAY, {"0", "3600", "86400", "longest"}, "86400",
            "The token itself expires before that, on 3 May 2031, 12:00 UTC.", id="own-expiry",
        ),
    ],
)  # fmt: skip
def test_overlaps_that_are_not_possible_say_why(acme, longest, lifetime, possible, chosen, words):
    TokenType.objects.update(longest_overlap=longest, may_never_expire=True)
    issued = acme.issue("admin", **({"expires_at": AT + timedelta(seconds=lifetime)} if lifetime else {}))
    if lifetime is None:
        ApiToken.objects.update(expires_at=None)
    page = Pages(acme, issued).get("rotate/")
    options, checked = offered(page)
    assert {value for value, is_possible in options.items() if is_possible} == possible
    assert checked == chosen
    assert words in page


def test_the_longest_overlap_is_what_the_type_allows_and_never_past_the_tokens_expiry(acme):
    TokenType.objects.update(longest_overlap=10 * DAY)
    long, short = acme.issue("admin", name="Long"), acme.issue("admin", name="Short", expires_at=AT + timedelta(days=2))
    for issued, deadline in ((long, AT + timedelta(days=10)), (short, AT + timedelta(days=2))):
        Pages(acme, issued).rotate(overlap="longest")
        assert Secret.objects.get(token=issued.token, expires_at__isnull=False).expires_at == deadline


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param({"overlap": "31536000"}, "The longest overlap here is 30 days", id="overlap"),
        pytest.param({"overlap": "soon"}, "Choose one of the offers, or give whole seconds.", id="no-number"),
        pytest.param({"overlap": "3600", "expires_in": "315360000"}, "The longest lifetime here is", id="expiry"),
        pytest.param({"overlap": "3600", "expires_at": "2030-01-01T00:00"}, "This moment has passed", id="past"),
    ],
)
def test_what_is_refused_is_said_at_its_field_and_nothing_has_changed(pages, old, fields, words):
    TokenType.objects.update(longest_lifetime=365 * DAY)
    form = pages.form()
    before = everything_stored(but=(*SIGNING_IN, "audit_auditevent", "audit_person"))
    answer = pages.browser.post(pages.url("rotate/"), {**form, **fields})
    assert (answer.status_code, words in text_of(answer)) == (422, True)
    assert everything_stored(but=(*SIGNING_IN, "audit_auditevent", "audit_person")) == before
    # With what was chosen still there, and the same nonce.
    assert f'value="{form["nonce"]}"' in answer.content.decode()
    assert works(old, pages.rotate(**form, overlap="3600")) == [True, True]


def test_a_rotation_may_set_a_new_expiry(pages, old):
    pages.rotate(overlap="3600", expires_in=str(7 * DAY))
    assert ApiToken.objects.get(pk=old.token.pk).expires_at == AT + timedelta(days=7)
    expiry = ApiToken.objects.get(pk=old.token.pk).expires_at
    pages.post("rotate/complete/")
    pages.rotate(overlap="0")
    assert ApiToken.objects.get(pk=old.token.pk).expires_at == expiry


def test_an_expired_token_is_not_offered_rotation_and_gets_none(frozen, acme):
    issued = acme.issue("admin", expires_at=AT + timedelta(hours=1))
    pages = Pages(acme, issued)
    assert "/rotate/" in pages.get()
    frozen.move_to(AT + timedelta(hours=2), tick=False)
    pages.confirm()
    assert "/rotate/" not in pages.get()
    answer = pages.post("rotate/", overlap="0")
    assert (answer.status_code, "can't be revived" in text_of(answer)) == (422, True)


def test_sent_twice_it_rotates_once_and_shows_no_secret_again(pages, old):
    form = {**pages.form(), "overlap": "3600"}
    first = pages.browser.post(pages.url("rotate/"), form)
    again = pages.browser.post(pages.url("rotate/"), form)
    assert (first.status_code, again.status_code) == (200, 409)
    assert shown(again) == {}
    assert f'href="{pages.url("rotate/")}"' in again.content.decode()
    assert old.token.secrets.filter(slot__isnull=False).count() == 2


# While it is under way


def test_the_tokens_page_shows_each_secret_with_its_use_and_the_deadline(frozen, pages, old):
    new = pages.rotate(overlap="86400")
    frozen.move_to(AT + timedelta(minutes=5), tick=False)
    use(old, "203.0.113.9")
    text = text_of(pages.browser.get(pages.url()))
    assert "A rotation is under way: the old one works until 2 May 2031, 12:00 UTC." in text
    assert f"Ends in {old.plaintext[-4:]} Old Made 1 May 2031, 12:00 UTC Works until 2 May 2031, 12:00 UTC" in text
    assert "Last used: 1 May 2031, 12:05 UTC, from 203.0.113.9" in text
    assert f"Ends in {new.plaintext[-4:]} New Made 1 May 2031, 12:00 UTC Last used: not since it was made" in text
    frozen.move_to(AT + timedelta(minutes=6), tick=False)
    use(new, "2001:db8::1")
    assert "Last used: 1 May 2031, 12:06 UTC, from 2001:db8::1" in text_of(pages.browser.get(pages.url()))
    frozen.move_to(AT + timedelta(days=1), tick=False)
    text = text_of(pages.browser.get(pages.url()))
    assert ("A rotation is under way" in text, f"Ends in {old.plaintext[-4:]}" in text) == (False, False)


def test_a_token_that_nobody_uses_says_so_wherever_its_last_use_is_shown(pages, acme, old):
    assert "Last used: never" in text_of(pages.browser.get(pages.url()))
    assert "Last used: never." in text_of(pages.browser.get(pages.url("delete/")))
    use(old)
    assert f"1 May 2031, 12:00 UTC, from {FROM}" in text_of(pages.browser.get(pages.url()))
    assert f"Last used: 1 May 2031, 12:00 UTC, from {FROM}." in text_of(pages.browser.get(pages.url("delete/")))
    assert FROM in text_of(pages.browser.get(acme.url()))


def test_completed_the_old_one_stops(pages, old):
    new = pages.rotate(overlap="86400")
    page = pages.get("rotate/complete/")
    assert ("Nobody has used it within the last hour." in page, 'name="even_if_used"' in page) == (True, False)
    answer = pages.post("rotate/complete/")
    assert (answer.status_code, answer.headers["Location"]) == (302, pages.url())
    assert works(old, new) == [False, True]


def test_completing_while_the_old_one_is_in_use_says_when_and_from_where_and_asks_again(frozen, pages, old):
    new = pages.rotate(overlap="86400")
    use(old, "203.0.113.9")
    frozen.move_to(AT + timedelta(minutes=30), tick=False)
    pages.confirm()
    used = "Last used: 1 May 2031, 12:00 UTC, from 203.0.113.9."
    assert used in pages.get("rotate/complete/")
    refused = pages.post("rotate/complete/")
    assert (refused.status_code, used in text_of(refused)) == (409, True)
    assert 'name="even_if_used"' in refused.content.decode()
    assert works(old, new) == [True, True]
    assert pages.post("rotate/complete/", even_if_used="on").status_code == 302
    assert works(old, new) == [False, True]


def test_cancelled_the_new_one_stops_and_the_old_one_has_no_deadline(frozen, pages, old):
    new = pages.rotate(overlap="3600")
    assert "The new one is in use already." not in pages.get("rotate/cancel/")
    use(new)
    assert "The new one is in use already." in pages.get("rotate/cancel/")
    assert pages.post("rotate/cancel/").status_code == 302
    assert works(old, new) == [True, False]
    frozen.move_to(AT + timedelta(hours=2), tick=False)
    assert works(old, new) == [True, False]


def test_a_second_rotation_waits_for_the_first_unless_it_leaked(pages, old):
    first = pages.rotate(overlap="3600")
    page = pages.get("rotate/")
    assert ('name="overlap"' in page, "complete or cancel" in page.lower()) == (False, True)
    assert pages.post("rotate/", overlap="0").status_code == 422
    assert works(old, first) == [True, True]
    last = pages.rotate(compromised="on")
    assert works(old, first, last) == [False, False, True]


@pytest.mark.parametrize("page", ["rotate/complete/", "rotate/cancel/"])
def test_with_no_rotation_under_way_there_is_nothing_to_end(pages, page):
    answer = pages.browser.get(pages.url(page), follow=True)
    assert answer.redirect_chain == [(pages.url(), 302)]
    assert "No rotation of this token is under way." in text_of(answer)
    assert pages.post(page).status_code == 409


def test_what_happened_is_in_the_record_in_words(pages):
    pages.rotate(overlap="3600")
    pages.post("rotate/cancel/")
    pages.rotate(overlap="3600")
    pages.post("rotate/complete/")
    text = text_of(pages.browser.get(pages.url()))
    for words in (
        "Rotated the token",
        "Cancelled the rotation",
        "Completed the rotation",
        "The old one works until none → 1 May 2031, 13:00 UTC",
    ):
        assert words in text
    assert "Compromised" not in text
    pages.rotate(compromised="on")
    assert "Compromised yes" in text_of(pages.browser.get(pages.url()))


def test_a_retired_secret_that_is_presented_is_in_the_record_in_words(pages, old, machine):
    pages.rotate(overlap="0")
    assert answer_to(machine, old).status_code == 401
    gathering.flush(at=AT)
    assert "Presented a secret that was retired" in text_of(pages.browser.get(pages.url()))


@pytest.mark.parametrize(("role", "statuses"), [("viewer", [403, 403, 403]), ("member", [200, 200, 200])])
def test_only_those_who_may_are_shown_the_pages(acme, role, statuses):
    issued = acme.issue("admin")
    Pages(acme, issued).rotate(overlap="3600")
    browser = acme.browser(role)
    pages = [f"{issued.token.token_id}/rotate/{page}" for page in ("", "complete/", "cancel/")]
    assert [browser.get(acme.url(page)).status_code for page in pages] == statuses
    links = browser.get(acme.url(f"{issued.token.token_id}/")).content.decode()
    assert ("rotate/complete/" in links, "rotate/cancel/" in links) == (
        (True, True) if role == "member" else (False, False)
    )


def test_in_the_console_a_tenants_secrets_are_looked_at_and_an_environments_rotated(world):
    office, environment = world.office, world.production
    tenants, own = world.acme.issue("admin"), world.acme.issue_for_environment()
    Pages(world.acme, tenants).rotate(overlap="3600")
    page = office.page("admin", environment, f"tokens/{tenants.token.token_id}/").content.decode()
    assert ("A rotation is under way" in page, "/rotate/" in page) == (True, False)
    for act in ("", "complete/", "cancel/"):
        answer = office.page("admin", environment, f"tokens/{tenants.token.token_id}/rotate/{act}")
        assert answer.status_code == 404
    made = office.post("admin", environment, f"tokens/{own.token.token_id}/rotate/", overlap="3600")
    new = Issued(token=own.token, plaintext=shown(made)["access_token"])
    assert works(own, new) == [True, True]
    office.post("admin", environment, f"tokens/{own.token.token_id}/rotate/complete/")
    assert works(own, new) == [False, True]


# Keys


def test_a_clients_key_is_rotated_by_pasting_the_next_one(acme):
    keys = [pem(ec.generate_private_key(ec.SECP256R1())) for _ in range(2)]
    client = acme.issue("admin", kind="client_credentials", public_key=keys[0])
    pages = Pages(acme, client)
    page = pages.get("rotate/")
    assert re.search(r'name="proof"\s+value="public_key"[^>]*checked', page)
    answer = pages.post("rotate/", proof="public_key", public_key=keys[1], overlap="3600")
    assert (answer.status_code, answer.headers["Location"]) == (302, pages.url())
    text = text_of(pages.browser.get(pages.url()))
    assert "The new public key is registered. Both work until 1 May 2031, 13:00 UTC." in text
    old, new = Secret.objects.filter(token=client.token).order_by("created_at", "id")
    for secret in (old, new):
        assert f"Key {secret.public_key['kid']} , ES256" in text
    # The program on the page signs with the new one.
    connect = text.partition("Connect")[2]
    assert (new.public_key["kid"] in connect, "private-key.pem" in connect) == (True, True)


def test_a_client_changes_from_a_secret_to_a_key_and_back(acme, machine):
    client = acme.issue("admin", kind="client_credentials")
    pages = Pages(acme, client)
    key = pem(ec.generate_private_key(ec.SECP256R1()))
    assert pages.post("rotate/", proof="public_key", public_key=key, overlap="0").status_code == 302
    assert grant(machine, client).status_code == 401
    assert "by a public key" in text_of(pages.browser.get(acme.url()))
    back = pages.rotate(proof="secret", overlap="0")
    assert grant(machine, back).status_code == 200


def test_an_access_token_is_asked_for_no_key(acme):
    page = Pages(acme, acme.issue("admin", kind="access_token")).get("rotate/")
    assert ('name="proof"' in page, 'name="public_key"' in page) == (False, False)
