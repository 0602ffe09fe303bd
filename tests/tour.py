"""Every page of the product, how to get there and as whom: what is looked at, judged by axe and drawn goes this way.

A stop is a page as an address alone shows it, or as somebody's act leaves it (`act`). `test_every_page.py` compares the
tour with the URL map.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import uuid4

from playwright.sync_api import Browser, BrowserContext, Page

from tests.doors import CONSOLE, PAGES
from tests.server import Server

NOWHERE = "/nowhere/"
# What answers GET with a file or another address.
NO_PAGES = {
    "t/<slug:slug>/", "t/<slug:slug>/tokens/ticked/", "t/<slug:slug>/audit.csv", "t/<slug:slug>/tokens.csv",
    "console/<slug:slug>/tokens/ticked/", "console/<slug:slug>/audit.csv", "console/<slug:slug>/tokens.csv",
}  # fmt: skip


@dataclass(frozen=True)
class Stop:
    """`path` has `{names}` of what is seen there (`sights`); `who` is nobody, or of Birch Bank or the vendor."""

    name: str
    who: str
    path: str
    act: Callable[[Page], None] | None = None
    status: int = 200


@dataclass
class Tour:
    server: Server
    sights: dict[str, str] = field(default_factory=dict)
    _kept: dict[str, dict] = field(default_factory=dict)

    def prepare(self) -> None:
        said = self.server.manage("shell", "-v", "0", "-c", "from tests import sights; sights.seed()")
        self.sights = json.loads(said.splitlines()[-1])

    @contextmanager
    def as_(self, who: str, browser: Browser, **options: object) -> Iterator[BrowserContext]:
        """A browser of that person's, signed in."""
        options = {"base_url": self.server.origin, **options}
        if who != "nobody" and who not in self._kept:
            with browser.new_context(**options) as context:
                self._kept[who] = self._sign_in(who, context)
        with browser.new_context(storage_state=self._kept.get(who), **options) as context:
            context.set_default_timeout(10_000)
            yield context

    def _sign_in(self, who: str, context: BrowserContext) -> dict:
        person = self.server.demo["vendor_users"][0] if who == "vendor" else self.server.person("birch", who)
        page = context.new_page()
        page.goto("/accounts/login/")
        page.locator("[name=login]").fill(person["email"])
        page.locator("[name=password]").fill(person["password"])
        page.locator("form:has([name=password]) button").first.click()
        page.wait_for_url("**/", wait_until="load")
        return context.storage_state()

    def password_of(self, who: str) -> str:
        return self.server.person("birch", who)["password"]

    def go(self, stop: Stop, page: Page) -> None:
        answer = page.goto(stop.path.format(**self.sights))
        assert answer, stop.name
        assert answer.status == stop.status, (stop.name, answer.status)
        if stop.act:
            stop.act(page)


def confirmed(tour: Tour, then: Callable[[Page], None] | None = None) -> Callable[[Page], None]:
    """What is about signing in wants the password once more."""

    def act(page: Page) -> None:
        if page.url.partition("?")[0].endswith("/accounts/confirm/"):
            page.locator("[name=password]").fill(tour.password_of("admin"))
            page.locator("main form:has([name=password]) button").first.click()
            page.wait_for_load_state()
        if then:
            then(page)

    return act


def _sent(page: Page) -> None:
    """By the button that the form is for."""
    with page.expect_navigation():
        page.locator("main form button.button-primary, main form button.button-danger").last.click()


def _made(page: Page) -> None:
    page.locator("[name=name]").fill(f"Data warehouse {uuid4().hex[:4]}")
    page.locator("[name=roles]:enabled").first.check()
    _sent(page)
    assert page.locator("[data-field=token_id]").count() == 1


def _rotated(page: Page) -> None:
    """One of its own, since a token that is being rotated is not rotated again."""
    _made(page)
    page.goto(f"{page.url.removesuffix('new/')}{page.locator('[data-field=token_id]').first.inner_text()}/rotate/")
    _sent(page)


def _ticked(page: Page) -> None:
    for box in page.locator("[name=token]").all()[:3]:
        box.check()
    with page.expect_navigation():
        page.locator("button[form=ticked][name=act][value=delete]").click()


ENVIRONMENT = "/console/{environment}/"
IN_CONSOLE = {
    "<str:token_id>": "{environment_token_id}", "<uuid:role_id>": "{vendor_role_id}", "<str:kid>": "{kid}",
    "<uuid:tenant_id>": "{tenant_id}", "<uuid:member_id>": "{vendor_member_id}", "<str:owner>": "tenant",
    "<str:kind>": "access_token", "<uuid:permission_id>": "{permission_id}", "<slug:staging>": "{staging}",
}  # fmt: skip
IN_PORTAL = {
    "<slug:slug>": "{slug}", "<str:token_id>": "{token_id}", "<uuid:role_id>": "{role_id}",
    "<uuid:member_id>": "{member_id}",
}  # fmt: skip


def _named(route: str, names: dict[str, str], rotating: str) -> str:
    if "rotate/c" in route:
        names = {**names, "<str:token_id>": rotating}
    for name, value in names.items():
        route = route.replace(name, value)
    return route


def _title(path: str) -> str:
    """What a picture of it is called: `/t/{slug}/tokens/{token_id}/edit/` is `tenant-tokens-one-edit`."""
    path = path.partition("?")[0].replace("/t/{slug}", "tenant").replace("/console/{environment}", "console")
    return re.sub(r"\{\w+\}", "one", path.strip("/")).replace("/", "-")


def of_the_portal() -> list[Stop]:
    """Those of a tenant that an address alone shows."""
    routes = {route: status for verb, route, _, status in PAGES if verb == "GET" and route not in NO_PAGES}
    paths = [f"/{_named(route, IN_PORTAL, '{rotating_id}')}" for route in routes]
    return [Stop(_title(path), "admin", path) for path in paths]


def of_the_console() -> list[Stop]:
    routes = [route for verb, route, *_ in CONSOLE if verb == "GET"]
    wanted = dict.fromkeys(route for route in routes if f"console/<slug:slug>/{route}" not in NO_PAGES)
    paths = [ENVIRONMENT + _named(route, IN_CONSOLE, "{environment_rotating_id}") for route in wanted]
    return [Stop(_title(path), "vendor", path) for path in paths]


def of_people(tour: Tour) -> list[Stop]:
    """Signing in, and everybody's own pages."""
    at_the_door = [
        Stop("sign-in", "nobody", "/accounts/login/"),
        Stop("sign-in-refused", "nobody", "/accounts/login/", _wrongly),
        Stop("sign-in-with-a-passkey", "nobody", "/accounts/login/passkey/"),
        Stop("password-reset", "nobody", "/accounts/password/reset/"),
        Stop("password-reset-sent", "nobody", "/accounts/password/reset/done/"),
        Stop("password-reset-done", "nobody", "/accounts/password/reset/key/done/"),
        Stop("password-reset-old-link", "nobody", "/accounts/password/reset/key/1-none/"),
        Stop("inactive", "nobody", "/accounts/inactive/"),
        Stop("invitation", "nobody", "/invitations/{invitation}/"),
        Stop("single-sign-on-find", "nobody", "/sign-in/"),
        Stop("single-sign-on", "nobody", "/t/{slug}/sign-in/"),
        Stop("single-sign-on-failed", "nobody", "/t/{slug}/sign-in/", _sent),
        Stop("api-reference", "nobody", "/api/docs/"),
        Stop("not-found", "nobody", NOWHERE, status=404),
    ]
    inside = [
        Stop("home", "admin", "/"),
        Stop("my-profile", "admin", "/account/"),
        Stop("my-tokens", "admin", "/account/tokens/"),
        Stop("my-sessions", "admin", "/account/sessions/"),
        Stop("my-security", "admin", "/account/security/"),
        Stop("confirm", "admin", "/accounts/confirm/?next=/account/"),
        Stop("app-add", "admin", "/account/security/app/add/", confirmed(tour)),
        Stop("passkey-add", "admin", "/account/security/passkeys/add/", confirmed(tour)),
        Stop("recovery-codes-new", "admin", "/account/security/recovery-codes/new/", confirmed(tour)),
        Stop("recovery-codes", "admin", "/account/security/recovery-codes/new/", confirmed(tour, _sent)),
        Stop("password-change", "admin", "/accounts/password/change/"),
        Stop("sign-out", "admin", "/accounts/logout/"),
        Stop("not-allowed", "viewer", "/t/{slug}/audit/", status=403),
    ]
    return at_the_door + inside


def _wrongly(page: Page) -> None:
    page.locator("[name=login]").fill("somebody@birch.example")
    page.locator("[name=password]").fill("not their password")
    with page.expect_navigation():
        page.locator("form:has([name=password]) button").first.click()


def of_acts() -> list[Stop]:
    """What only a form that was sent shows."""
    return [
        Stop("token-made", "admin", "/t/{slug}/tokens/new/", _made),
        Stop("token-refused", "admin", "/t/{slug}/tokens/new/", _sent),
        Stop("token-rotated", "admin", "/t/{slug}/tokens/new/", _rotated),
        Stop("tokens-ticked", "admin", "/t/{slug}/tokens/", _ticked),
        Stop("tokens-none-found", "admin", "/t/{slug}/tokens/?q=nothing-is-called-so"),
        Stop("token-disabled", "admin", "/t/{slug}/tokens/{disabled_id}/"),
        Stop("member-suspended", "admin", "/t/{slug}/members/{suspended_id}/"),
        Stop("tokens-empty", "vendor", "/console/{staging}/all-tokens/"),
        Stop("console-home", "vendor", "/console/"),
    ]


def stops(tour: Tour) -> list[Stop]:
    return [*of_people(tour), *of_the_portal(), *of_acts(), *of_the_console()]
