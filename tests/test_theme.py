"""The theme that somebody chose: kept in a cookie, rendered by the server, safe to go back from."""

import re

import pytest
from django.test import Client
from playwright.sync_api import expect

from tests.test_main_job import sign_in

CHOICE = re.compile(r'value="(\w+)" aria-pressed="true"')
GROUNDS = {"light": "rgb(250, 249, 247)", "dark": "rgb(20, 19, 17)"}


def html_of(page):
    """The theme of the document, what the browser is told before the sheet, and the choice that is pressed."""
    text = page.content.decode()
    return (
        re.search(r'<html [^>]*data-theme="([^"]*)"', text)[1],
        re.search(r'<meta name="color-scheme" content="([^"]*)">', text)[1],
        CHOICE.findall(text),
    )


def choose(browser, theme, came_from="http://testserver/accounts/login/"):
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', browser.get("/accounts/login/").content.decode())
    return browser.post("/theme/", {"csrfmiddlewaretoken": token[1], "theme": theme}, headers={"Referer": came_from})


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_chosen_theme_is_in_every_page_until_another_is_chosen(db, theme):
    browser = Client(enforce_csrf_checks=True)
    assert html_of(browser.get("/accounts/login/")) == ("system", "light dark", ["system"])
    answer = choose(browser, theme)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/accounts/login/")
    cookie = answer.cookies["theme"]
    assert (cookie.value, cookie["max-age"], cookie["samesite"], cookie["httponly"], cookie["path"]) == (
        theme, 365 * 24 * 3600, "Lax", True, "/",
    )  # fmt: skip
    assert html_of(browser.get("/accounts/login/")) == (theme, theme, [theme])
    assert html_of(browser.get("/no-such-page/"))[:2] == (theme, theme)
    choose(browser, "system")
    assert "theme" not in browser.cookies or browser.cookies["theme"].value == ""
    assert html_of(browser.get("/accounts/login/")) == ("system", "light dark", ["system"])


def test_whoever_is_signed_in_finds_the_switch_in_the_account_menu(acme):
    browser = acme.browser("member")
    browser.cookies["theme"] = "dark"
    assert html_of(browser.get(acme.url())) == ("dark", "dark", ["dark"])


@pytest.mark.parametrize("value", ["purple", "", '"><script>', "Dark", "light dark"])
def test_a_cookie_of_any_other_value_is_as_none(db, value):
    browser = Client()
    browser.cookies["theme"] = value
    assert html_of(browser.get("/accounts/login/")) == ("system", "light dark", ["system"])
    assert choose(browser, value).cookies["theme"]["max-age"] == 0


@pytest.mark.parametrize(
    ("came_from", "location"),
    [
        ("http://testserver/t/acme/tokens/?q=a%20b", "/t/acme/tokens/?q=a%20b"),
        ("https://elsewhere.example/t/acme/", "/"),
        ("http://testserver//elsewhere.example/", "/"),
        ("http://testserver/\\elsewhere.example/", "/"),
        ("http://testserver", "/"),
        ("//elsewhere.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("http://[", "/"),
        ("", "/"),
    ],
)
def test_the_way_back_leads_nowhere_else(db, came_from, location):
    answer = choose(Client(enforce_csrf_checks=True), "dark", came_from)
    assert (answer.status_code, answer.headers["Location"]) == (302, location)


def test_another_site_can_not_choose_it(db):
    browser = Client(enforce_csrf_checks=True)
    assert browser.post("/theme/", {"theme": "dark"}).status_code == 403
    assert browser.get("/theme/").status_code == 405
    assert "theme" not in browser.cookies


def test_a_page_that_answers_a_form_does_not_offer_to_leave_it(acme):
    """Among them the one that shows a secret, this once."""
    page = acme.make("admin", roles=["viewer"])
    assert page.status_code == 200
    assert "data-theme-switch" not in page.content.decode()


def choose_in(page, name):
    with page.expect_response("**/theme/"):
        page.get_by_role("button", name=name).click()


@pytest.mark.browser
@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_a_theme_is_chosen_in_place_or_by_the_form_alone_and_outranks_the_systems(browse, server, scripts):
    page = browse(color_scheme="light", reduced_motion="reduce", java_script_enabled=scripts)
    page.goto("/accounts/login/")
    page.get_by_label("Email").fill("typed@example.com")
    choose_in(page, "Dark")
    expect(page.get_by_role("button", name="Dark")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_label("Email")).to_have_value("typed@example.com" if scripts else "")
    expect(page.locator("body")).to_have_css("background-color", GROUNDS["dark"])
    page.goto("/accounts/login/")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.locator("body")).to_have_css("background-color", GROUNDS["dark"])
    sign_in(page, server.person("birch", "admin"))
    page.locator("summary", has_text="Account:").click()
    choose_in(page, "Light")
    page.emulate_media(color_scheme="dark")
    expect(page.locator("body")).to_have_css("background-color", GROUNDS["light"])
