"""A person's own pages in a real browser: an app, a passkey, recovery codes, sessions, and confirming."""

import re
from uuid import uuid4

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.test_security import code_of

pytestmark = pytest.mark.browser

PASSWORD = "correct horse battery staple"
JOIN = """
from accounts.models import User
from apitokens.setup import give_role
from tenants.models import Membership, Role, Tenant
tenant = Tenant.objects.get(slug={tenant!r})
user = User.objects.create_user({email!r}, {password!r}, name="Pat")
member = Membership.objects.create(user=user, tenant=tenant, environment=tenant.environment)
give_role(member, Role.objects.get(environment=tenant.environment, tenant=None, key="admin"))
print(user.pk)
"""
AGE = """
from django.contrib.sessions.models import Session
from accounts.sessions import SessionStore
for key in Session.objects.values_list("pk", flat=True):
    store = SessionStore(key)
    if store.get("_auth_user_id") and store.get("account_authentication_methods"):
        store["account_authentication_methods"] = [
            {{**record, "at": record["at"] - 3600}} for record in store["account_authentication_methods"]
        ]
        if str(store["_auth_user_id"]) == {user!r}:
            store.save()
"""
PHONE = {"width": 320, "height": 700}


@pytest.fixture
def pat(server):
    """Somebody of their own, so that nobody else's signing in takes longer for it; with the tenant's address."""
    tenant = server.demo["tenants"][0]["slug"]
    email = f"pat-{uuid4().hex[:8]}@example.com"
    said = server.manage("shell", "-c", JOIN.format(tenant=tenant, email=email, password=PASSWORD))
    return {"id": said.split()[-1], "email": email, "home": f"/t/{tenant}/tokens/"}


def sign_in(page: Page, pat: dict[str, str]) -> None:
    page.goto("/accounts/login/")
    page.get_by_label("Email").fill(pat["email"])
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()


def confirm(page: Page) -> None:
    expect(page.get_by_role("heading", name="Confirm that it is you")).to_be_visible()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Confirm").click()


def add_device(page: Page) -> None:
    """A telephone or a laptop that knows its owner by their finger."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
        "isUserVerified": True, "automaticPresenceSimulation": True,
    }  # fmt: skip
    devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})


def enrol_app(page: Page) -> tuple[str, list[str]]:
    """The app's key, and the recovery codes."""
    page.goto("/account/security/app/add/")
    confirm(page)
    key = page.locator("[data-field=secret]").inner_text()
    page.locator("#id_code").fill(code_of(key))
    page.get_by_role("button", name="Turn it on").click()
    codes = page.locator("#recovery-codes").inner_text().split()
    page.get_by_role("link", name="I have saved them").click()
    expect(page.get_by_role("heading", name="Security")).to_be_visible()
    return key, codes


def check(page: Page) -> None:
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        found = Axe().run(page)
        assert found.violations_count == 0, f"{page.url} in {scheme}: {found.generate_report()}"
    size = page.viewport_size
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), page.url
    page.set_viewport_size(size)


@pytest.mark.parametrize("script", [True, False], ids=["with-script", "without"])
def test_an_app_is_set_up_and_asked_for_and_a_recovery_code_stands_in_for_it(pat, browse, script):
    page = browse(java_script_enabled=script)
    sign_in(page, pat)
    key, codes = enrol_app(page)
    assert len(codes) == 10
    for code in (code_of(key, later=1), codes[0]):
        other = browse(java_script_enabled=script)
        sign_in(other, pat)
        expect(other.get_by_role("heading", name="One more step")).to_be_visible()
        other.get_by_label("Code from your app").fill("000000")
        other.get_by_role("button", name="Sign in", exact=True).click()
        expect(other.get_by_role("alert")).to_contain_text("Incorrect code")
        other.get_by_label("Code from your app").fill(code)
        other.get_by_role("button", name="Sign in", exact=True).click()
        expect(other).to_have_url(re.compile(re.escape(pat["home"])))
    page.goto("/account/security/")
    expect(page.get_by_text("9 codes are left")).to_be_visible()


def test_a_passkey_signs_in_without_a_password_and_confirms(pat, browse, server):
    page = browse()
    add_device(page)
    sign_in(page, pat)
    page.goto("/account/security/passkeys/add/")
    confirm(page)
    page.get_by_label("Name").fill("My laptop")
    page.get_by_role("button", name="Add this device").click()
    page.get_by_role("link", name="I have saved them").click()
    expect(page.get_by_text("My laptop", exact=True).first).to_be_visible()
    page.locator("summary", has_text="Pat").click()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page).to_have_url(re.compile(re.escape(pat["home"])))
    age(server, pat)
    page.goto(f"{pat['home']}new/")
    expect(page.get_by_role("heading", name="Confirm that it is you")).to_be_visible()
    page.get_by_role("link", name="Use a passkey").click()
    page.get_by_role("button", name="Use a passkey").click()
    expect(page).to_have_url(re.compile(f"{re.escape(pat['home'])}new/"))


def age(server, pat: dict[str, str]) -> None:
    """An hour passes since that person showed who they are."""
    server.manage("shell", "-c", AGE.format(user=pat["id"]))


@pytest.mark.parametrize("script", [True, False], ids=["with-script", "without"])
def test_confirming_loses_nothing_of_a_form(pat, browse, server, script):
    page = browse(java_script_enabled=script)
    sign_in(page, pat)
    page.goto(f"{pat['home']}new/")
    page.get_by_label("Name", exact=True).fill("Filled in slowly")
    page.get_by_label("For me", exact=True).check()
    age(server, pat)
    page.get_by_role("button", name="Make the token").click()
    expect(page.get_by_text("Nothing that you filled in is lost")).to_be_visible()
    check(page) if script else None
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Confirm and go on").click()
    expect(page.get_by_role("alert").first).to_contain_text("Incorrect password")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Confirm and go on").click()
    expect(page.get_by_role("heading", name="Here is your secret")).to_be_visible()
    expect(page.get_by_text("Filled in slowly").first).to_be_visible()


def test_a_browser_is_signed_out_from_another_one(pat, browse):
    here, there = browse(), browse()
    for page in (here, there):
        sign_in(page, pat)
        expect(page).to_have_url(re.compile(re.escape(pat["home"])))
    here.goto("/account/sessions/")
    rows = here.locator("tr[data-session-id]")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("This browser")
    rows.nth(1).get_by_role("button", name="Sign out").click()
    expect(here.get_by_text("That browser is signed out.")).to_be_visible()
    expect(rows).to_have_count(1)
    there.reload()
    expect(there.get_by_role("heading", name="Sign in")).to_be_visible()


def test_every_own_page_is_for_everybody(pat, browse):
    page = browse()
    add_device(page)
    page.goto("/accounts/login/")
    check(page)
    sign_in(page, pat)
    for path in ("/account/", "/account/security/", "/account/sessions/", "/account/tokens/", "/accounts/confirm/"):
        page.goto(path)
        check(page)
    page.goto("/account/security/app/add/")
    confirm(page)
    check(page)
    key = page.locator("[data-field=secret]").inner_text()
    page.locator("#id_code").fill(code_of(key))
    page.get_by_role("button", name="Turn it on").click()
    check(page)
    page.goto("/account/security/passkeys/add/")
    check(page)
    page.get_by_role("button", name="Add this device").click()
    expect(page.get_by_role("heading", name="Passkeys")).to_be_visible()
    check(page)
    page.get_by_role("link", name="Rename").click()
    check(page)
    page.go_back()
    page.get_by_role("link", name=re.compile("Remove….*Passkey", re.DOTALL)).click()
    check(page)
    for path in (
        "/account/", "/account/security/app/remove/", "/account/security/recovery-codes/",
        "/account/security/recovery-codes/new/", "/accounts/confirm/code/", "/accounts/confirm/passkey/",
        "/accounts/password/change/",
    ):  # fmt: skip
        page.goto(path)
        check(page)
    other = browse()
    sign_in(other, pat)
    expect(other.get_by_role("heading", name="One more step")).to_be_visible()
    check(other)
