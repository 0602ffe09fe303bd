"""A vendor sets up a product in the console, without a shell; a customer's admin comes in by the link they were given.

In a real browser, against the real server: what the vendor then forbids, the customer's machine notices.
"""

import pytest
import requests
from playwright.sync_api import Page, expect

from tests.test_main_job import fill_in, read_fields

pytestmark = pytest.mark.browser
AUDIENCE = "https://api.trial.example"
ADMIN = {"email": "ines@northwind.example", "name": "Ines", "password": "correct horse battery staple"}


@pytest.fixture
def vendor(browse, server):
    """The vendor's owner, signed in: straight to the console, since they belong to no tenant."""
    page, owner = browse(), server.demo["vendor_users"][0]
    page.goto("/")
    page.get_by_label("Email").fill(owner["email"])
    page.get_by_label("Password").fill(owner["password"])
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("heading", name="Where do you want to go?")).to_be_visible()
    return page


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def follow(page: Page, name: str, within: str = "main") -> None:
    page.locator(within).get_by_role("link", name=name, exact=True).first.click()


def tab(page: Page, name: str) -> None:
    page.get_by_role("navigation", name="Main").get_by_role("link", name=name, exact=True).click()


def make_environment(page: Page) -> None:
    page.get_by_role("link", name="Production").first.click()
    tab(page, "Settings")
    follow(page, "New environment")
    page.get_by_label("Name", exact=True).fill("Trial")
    page.get_by_label("Address").fill("northwind-trial")
    page.get_by_label("API identifier").fill(AUDIENCE)
    page.get_by_role("radio", name="Purple").check()
    press(page, "Make the environment")
    expect(page.get_by_role("banner").locator("summary").get_by_text("Trial")).to_be_visible()


def make_permission(page: Page, key: str, description: str) -> None:
    tab(page, "Roles")
    follow(page, "Permissions")
    follow(page, "New permission")
    page.get_by_label("Key").fill(key)
    page.get_by_label("Description").fill(description)
    page.locator("main form").get_by_role("button").first.click()
    expect(page.get_by_text(key).first).to_be_visible()


def give_to_roles(page: Page, key: str, *roles: str) -> None:
    tab(page, "Roles")
    for role in roles:
        page.get_by_role("checkbox", name=f"{role} may {key}").check()
    press(page, "Review changes")
    page.locator("main form").get_by_role("button").first.click()
    for role in roles:
        expect(page.get_by_role("checkbox", name=f"{role} may {key}")).to_be_checked()


def change_type(page: Page, cell: str) -> None:
    tab(page, "Token types")
    follow(page, cell)


def make_tenant_and_invite(page: Page) -> str:
    tab(page, "Tenants")
    follow(page, "New tenant")
    page.get_by_label("Name", exact=True).fill("Northwind")
    page.get_by_label("Address").fill("northwind")
    page.get_by_label("External id").fill("nw-1")
    page.locator("main form").get_by_role("button").first.click()
    expect(page.get_by_role("heading", name="Northwind", exact=True)).to_be_visible()
    page.get_by_label("E-mail").fill(ADMIN["email"])
    page.get_by_label("Role").select_option("admin")
    press(page, "Invite")
    return page.locator('[data-field="invitation_link"]').inner_text()


def join(page: Page, link: str) -> None:
    page.goto(link)
    expect(page.get_by_role("heading", name="Join Northwind")).to_be_visible()
    page.get_by_label("Your name").fill(ADMIN["name"])
    page.get_by_label("Password", exact=True).fill(ADMIN["password"])
    press(page, "Make the account and join")
    expect(page.get_by_role("heading", name="API tokens", exact=True)).to_be_visible()


def ask(server, secret: str) -> requests.Response:
    return server.machine().get("/api/v1/token/self", headers={"Authorization": f"Bearer {secret}"})


def test_a_vendor_sets_up_a_product_and_a_customer_uses_it(vendor, browse, server):
    make_environment(vendor)
    make_permission(vendor, "orders:read", "Read orders")
    give_to_roles(vendor, "orders:read", "Viewer", "Member", "Admin")
    change_type(vendor, "A tenant: Access token")
    vendor.get_by_label("How many an owner may have").fill("5")
    press(vendor, "Save")
    link = make_tenant_and_invite(vendor)

    customer = browse()
    join(customer, link)
    customer.get_by_role("link", name="New token").click()
    fill_in(customer, name="Orders", owner="tenant", kind="access_token")
    press(customer, "Make the token")
    secret = read_fields(customer)["access_token"]
    answer = ask(server, secret)
    assert (answer.status_code, answer.json()["environment"]) == (200, "northwind-trial")
    assert "orders:read" in answer.json()["scope"].split()

    tab(vendor, "Overview")
    expect(vendor.get_by_text("5 of 5 done")).to_be_visible()
    change_type(vendor, "A tenant: Access token")
    vendor.get_by_label("Such tokens may exist").uncheck()
    press(vendor, "Save")
    expect(vendor.get_by_role("heading", name="Review the change")).to_be_visible()
    expect(vendor.get_by_text("Orders")).to_be_visible()
    assert ask(server, secret).status_code == 200, "a dry run does nothing"
    press(vendor, "Change it")
    refused = ask(server, secret)
    assert refused.status_code == 401
    assert "switched off" in refused.json()["detail"]
    customer.goto("/")
    expect(customer.get_by_text("Switched off by the vendor")).to_be_visible()


def test_a_form_of_one_environment_does_nothing_in_another(vendor, browse):
    """Two tabs: what was opened in the first is sent after the person went on to the second."""
    vendor.get_by_role("link", name="Production").first.click()
    tab(vendor, "Settings")
    vendor.get_by_label("Name", exact=True).fill("Renamed by mistake")
    other = vendor.context.new_page()
    other.goto("/")
    other.get_by_role("link", name="Staging").first.click()
    expect(other.get_by_role("banner").locator("summary").get_by_text("Staging")).to_be_visible()
    press(vendor, "Save")
    expect(vendor.get_by_text("Nothing was changed.", exact=True)).to_be_visible()
    vendor.goto("/")
    expect(vendor.get_by_text("Renamed by mistake")).to_have_count(0)
