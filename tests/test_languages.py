"""Which language somebody reads: what is asked for, by whom, and where nobody asks but a machine."""

import re

import pytest
from django.core import mail
from django.db import OperationalError
from django.test import Client
from django.utils import timezone, translation

from accounts import languages
from accounts.models import User
from apitokens.governance import invitations
from apitokens.principals import system
from audit.models import AuditEvent
from tests.cast import bearer, signed_in

CSRF = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')
HTML = re.compile(r'<html lang="([^"]+)" dir="([^"]+)"')
ASKED = {"Accept-Language": "de"}
PRESSED = re.compile(r'name="language" value="([\w-]+)"[^>]*aria-pressed="true"')


def reads(answer):
    return HTML.search(answer.content.decode()).groups()


@pytest.mark.parametrize(
    ("header", "cookie", "language"),
    [
        pytest.param("", "", ("en-gb", "ltr"), id="nothing said"),
        pytest.param("de", "", ("de", "ltr"), id="the browser"),
        pytest.param("de-AT,de;q=0.9,en;q=0.5", "", ("de", "ltr"), id="a region of it"),
        pytest.param("ar-EG", "", ("ar", "rtl"), id="from right to left"),
        pytest.param("fr,en;q=0.1", "", ("en-gb", "ltr"), id="one that there is not"),
        pytest.param("de", "ar", ("ar", "rtl"), id="the cookie before the browser"),
        pytest.param("de", "fr", ("de", "ltr"), id="a cookie of no language"),
        pytest.param("de", "../../de\x00", ("de", "ltr"), id="a cookie of nothing"),
        pytest.param("*;q=0.0001" * 900, "", ("en-gb", "ltr"), id="a header without an end"),
    ],
)
def test_a_page_is_in_the_language_that_is_asked_for(db, header, cookie, language):
    browser = Client(headers={"Accept-Language": header} if header else None)
    browser.cookies["language"] = cookie
    answer = browser.get("/accounts/login/")
    assert reads(answer) == language
    assert answer.headers["Content-Language"] == language[0]
    assert {"Accept-Language", "Cookie"} <= set(answer.headers["Vary"].split(", "))
    assert reads(browser.get("/no-such-page/")) == language


def test_what_a_person_chose_outranks_the_browser_and_an_embedded_session_outranks_both(acme):
    browser = acme.browser("admin")
    browser.cookies["language"] = "en-gb"
    User.objects.filter(pk=acme.people["admin"].user_id).update(language="de")
    assert reads(browser.get(acme.url(), headers={"Accept-Language": "fr"})) == ("de", "ltr")
    session = browser.session
    session["locale"] = "ar-SA"
    session.save()
    page = browser.get(acme.url())
    assert reads(page) == ("ar", "rtl")
    # The application around it decides, and nothing is offered that would change nothing.
    assert 'action="/language/"' not in page.content.decode()
    session["locale"] = "xx"
    session.save()
    assert reads(browser.get(acme.url())) == ("de", "ltr")


def choose(browser, language, came_from="http://testserver/accounts/login/?next=/"):
    page = browser.get("/accounts/password/reset/").content.decode()
    sent = {"csrfmiddlewaretoken": CSRF.search(page)[1], "language": language}
    return browser.post("/language/", sent, headers={"Referer": came_from})


def test_a_chosen_language_is_kept_in_a_cookie_and_leads_back(db):
    browser = Client(enforce_csrf_checks=True)
    assert PRESSED.findall(browser.get("/accounts/login/").content.decode()) == ["en-gb"]
    answer = choose(browser, "ar")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/accounts/login/?next=/")
    cookie = answer.cookies["language"]
    assert (cookie.value, cookie["max-age"], cookie["samesite"], cookie["httponly"], cookie["path"]) == (
        "ar", 365 * 24 * 3600, "Lax", True, "/",
    )  # fmt: skip
    page = browser.get("/accounts/login/")
    assert reads(page) == ("ar", "rtl")
    assert PRESSED.findall(page.content.decode()) == ["ar"]


@pytest.mark.parametrize("value", ["fr", "", "de\r\nSet-Cookie: a=b", "x" * 5000])
def test_another_value_than_a_language_changes_nothing(db, value):
    answer = choose(Client(enforce_csrf_checks=True), value, "https://elsewhere.example/")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")
    assert "language" not in answer.cookies


def test_another_site_can_not_choose_it(db):
    browser = Client(enforce_csrf_checks=True)
    assert browser.post("/language/", {"language": "de"}).status_code == 403
    assert browser.get("/language/").status_code == 405


def test_what_somebody_signed_in_chooses_goes_with_them_and_is_in_the_record_once(acme):
    user = acme.people["viewer"].user
    browser = acme.browser("viewer")
    for _ in range(2):
        choose(browser, "de")
    user.refresh_from_db()
    assert user.language == "de"
    assert reads(signed_in(user).get(acme.url())) == ("de", "ltr")
    changed = AuditEvent.objects.filter(verb="user.edited", target_id=user.pk)
    assert list(changed.values_list("after", flat=True)) == [{"changed": ["language"]}]


def test_the_profile_offers_the_languages_by_their_own_names(acme):
    browser = acme.browser("viewer")
    page = browser.get("/account/").content.decode()
    for name in ("English", "Deutsch", "العربية"):
        assert name in page
    typed = {"csrfmiddlewaretoken": CSRF.search(page)[1], "name": "Vera", "time_zone": ""}
    assert browser.post("/account/", {**typed, "language": "ar"}).status_code == 302
    assert reads(browser.get("/account/")) == ("ar", "rtl")
    assert browser.post("/account/", {**typed, "language": "fr"}).status_code == 422


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/tokens", "/api/v1/token/self", "/api/v1/nothing", "/api/schema/", "/oauth2/token", "/oauth2/nothing",
        "/e/nothing/jwks.json", "/.well-known/openid-configuration/e/nothing", "/healthz", "/readyz", "/metrics",
    ],
)  # fmt: skip
def test_machines_are_answered_the_same_whatever_language_they_name(acme, path):
    asked = [Client().get(path, headers=headers) for headers in ({}, ASKED)]
    german = Client(headers=ASKED)
    german.cookies["language"] = "de"
    first, *others = [seen(answer) for answer in (*asked, german.get(path))]
    assert others == [first, first]


def seen(answer):
    named = ("Content-Language", "Vary", "WWW-Authenticate", "Content-Type")
    return answer.status_code, answer.content, {name: answer.headers.get(name) for name in named}


def test_a_refusal_is_german_on_the_page_and_english_in_the_api(acme, machine):
    browser = acme.browser("viewer")
    browser.cookies["language"] = "de"
    with translation.override("de"):
        german = translation.gettext("Not allowed")
    page = browser.get(f"/t/{acme.tenant.slug}/members/invite/")
    assert (page.status_code, reads(page)) == (403, ("de", "ltr"))
    assert german != "Not allowed"
    assert german in page.content.decode()
    viewers = acme.issue("admin", roles=["viewer"]).plaintext
    made = {"name": "X", "kind": "access_token", "roles": ["viewer"]}
    headers = {**bearer(viewers), **ASKED}
    answer = machine.post("/api/v1/tokens", made, content_type="application/json", headers=headers)
    assert answer.json()["detail"] == "This needs the permission apitokens:create."


def test_a_page_that_is_refused_before_anything_else_is_in_the_language_too(db):
    answer = Client(headers=ASKED).post("/accounts/login/", "x", content_type="text/plain", CONTENT_LENGTH=10**6)
    assert (answer.status_code, reads(answer)) == (413, ("de", "ltr"))


def test_a_file_for_a_spreadsheet_is_the_same_in_every_language(acme):
    acme.issue("admin")
    browser = acme.browser("owner")
    files = []
    for language in ("en-gb", "de"):
        browser.cookies["language"] = language
        files.append([b"".join(browser.get(f"/t/{acme.tenant.slug}/{name}.csv")) for name in ("tokens", "audit")])
    assert files[0] == files[1]


def test_a_mail_is_in_its_readers_language_else_in_its_senders(acme, settings):
    settings.SENDS_MAIL = True
    User.objects.create_user("german@example.com", language="de")
    for email in ("german@example.com", "stranger@example.com"):
        with translation.override("ar" if email.startswith("stranger") else "en-gb"):
            asked = {"email": email, "roles": ["viewer"], "at": timezone.now()}
            invitations.invite(by=system(acme.environment), tenant=acme.tenant, **asked)
    to = {"to": acme.tenant.name}
    expected = []
    for language in ("de", "ar"):
        with translation.override(language):
            expected.append(translation.gettext("Invitation to %(to)s") % to)
    assert [sent.subject for sent in mail.outbox] == expected
    assert len({*expected, "Invitation to Acme"}) == 3


def test_a_link_for_a_new_password_comes_in_the_language_of_the_person(acme):
    user = acme.people["viewer"].user
    User.objects.filter(pk=user.pk).update(language="de")
    Client().post("/accounts/password/reset/", {"email": user.email})
    assert "Passwort" in mail.outbox[0].subject + mail.outbox[0].body


def test_a_database_that_fails_before_any_page_is_503_there_too(acme, monkeypatch):
    browser = acme.browser("admin")
    browser.raise_request_exception = False
    assert browser.get(acme.url()).status_code == 200

    def fail(request):
        raise OperationalError

    monkeypatch.setattr(languages, "of_reader", fail)
    answer = browser.get(acme.url())
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
