"""Single sign-on in a real browser: set up, tried out, signed in by, a token made, made the only way in, taken back."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.conftest import ANSWERED_ON_PURPOSE, REPORT_VIOLATIONS
from tests.oidc_provider import CLIENT_ID, CLIENT_SECRET, running_provider

pytestmark = pytest.mark.browser

TENANT = "cedar"
OWNER = """
from accounts.models import User
from apitokens.setup import give_role
from tenants.models import Membership, Role
member = Membership.objects.filter(user__voucher_user_id="nia", tenant__slug={tenant!r}).latest("created_at")
give_role(member, Role.objects.get(environment=member.environment, tenant=None, key="owner"))
"""


@pytest.fixture
def provider():
    with running_provider() as running:
        yield running


@pytest.fixture
def open_browser(browser, server, provider):
    """As everywhere, but going to the provider is what is wanted."""
    contexts, complaints = [], []

    def note(message):
        if message.type in ("error", "warning") and not ANSWERED_ON_PURPOSE.match(message.text):
            complaints.append(f"{message.type} on {message.page.url}: {message.text}")

    def go(request):
        if not request.url.startswith((server.origin, provider.issuer, "data:")):
            complaints.append(f"a request to {request.url}")

    def open_one(**options) -> Page:
        context = browser.new_context(base_url=server.origin, locale="en-GB", **options)
        contexts.append(context)
        context.set_default_timeout(10_000)
        context.on("console", lambda message: message.page.url.startswith(server.origin) and note(message))
        context.on("request", go)
        if options.get("java_script_enabled", True):
            context.add_init_script(REPORT_VIOLATIONS)
        return context.new_page()

    yield open_one
    for context in contexts:
        context.close()
    assert complaints == []


def check_accessible(page: Page) -> None:
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        assert [found["id"] for found in Axe().run(page).response["violations"]] == [], (page.url, scheme)


def at_the_provider(page: Page) -> None:
    expect(page.get_by_role("heading", name="Sign in to the provider")).to_be_visible()
    page.get_by_label("User").fill("nia")
    page.get_by_label("E-mail").fill("nia@corp.example")
    page.get_by_label("Name").fill("Nia New")
    page.get_by_role("button", name="Sign in there").click()


def sign_in_here(page: Page, person: dict[str, str]) -> None:
    page.goto("/accounts/login/")
    page.get_by_label("Email").fill(person["email"])
    page.get_by_label("Password").fill(person["password"])
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url("**/tokens/")


def come_in(page: Page) -> None:
    page.goto(f"/t/{TENANT}/tokens/")
    page.get_by_role("link", name="Sign in with single sign-on").click()
    check_accessible(page)
    page.get_by_label("Address of the tenant").fill(TENANT)
    page.get_by_role("button", name="Go on").click()
    check_accessible(page)
    page.get_by_role("button", name="Continue with single sign-on").click()
    at_the_provider(page)
    page.wait_for_url(f"**/t/{TENANT}/tokens/")


@pytest.mark.parametrize("scripted", [True, False], ids=["with scripts", "without scripts"])
def test_a_tenant_lets_its_people_in_by_its_own_provider(open_browser, server, provider, scripted):
    owner = open_browser(java_script_enabled=True)
    sign_in_here(owner, server.person(TENANT, "owner"))
    owner.get_by_role("link", name="Single sign-on").click()
    check_accessible(owner)
    owner.get_by_role("link", name="Set up single sign-on").click()
    check_accessible(owner)
    owner.get_by_label("Issuer").fill(provider.issuer)
    owner.get_by_label("Client id").fill(CLIENT_ID)
    owner.get_by_label("Client secret").fill(CLIENT_SECRET)
    owner.get_by_role("button", name="Save").click()
    check_accessible(owner)  # with what is missing told
    owner.get_by_label("Client secret").fill(CLIENT_SECRET)
    owner.get_by_role("checkbox", name="Member", exact=True).check()
    owner.get_by_role("button", name="Save").click()
    expect(owner.get_by_text("Single sign-on is saved.")).to_be_visible()
    check_accessible(owner)
    owner.get_by_role("button", name="Try it out").click()
    at_the_provider(owner)
    expect(owner.get_by_text("nia@corp.example")).to_be_visible()
    check_accessible(owner)

    nia = open_browser(java_script_enabled=scripted)
    if scripted:
        come_in(nia)
    else:
        nia.goto(f"/t/{TENANT}/sign-in/")
        nia.get_by_role("button", name="Continue with single sign-on").click()
        at_the_provider(nia)
        nia.wait_for_url(f"**/t/{TENANT}/tokens/")
    nia.goto(f"/t/{TENANT}/tokens/new/")
    expect(nia.get_by_role("heading", name="New API token")).to_be_visible()

    server.manage("shell", "-v", "0", "-c", OWNER.format(tenant=TENANT))
    nia.goto(f"/t/{TENANT}/sso/")
    nia.get_by_role("link", name=re.compile("only way in")).click()
    if scripted:
        check_accessible(nia)
    nia.get_by_role("button", name="Make it the only way in").click()
    expect(nia.get_by_text("Single sign-on is the only way in now.")).to_be_visible()

    owner.goto(f"/t/{TENANT}/tokens/")
    expect(owner.get_by_role("heading", name=f"Sign in to {TENANT}")).to_be_visible()
    check_accessible(owner)

    nia.goto(f"/t/{TENANT}/sso/")
    nia.get_by_role("link", name="Remove…").click()
    if scripted:
        check_accessible(nia)
    nia.get_by_role("button", name="Remove single sign-on").click()
    nia.wait_for_url("**/accounts/login/**")
    owner.goto(f"/t/{TENANT}/tokens/")
    expect(owner.get_by_role("heading", name="API tokens", level=1)).to_be_visible()
