"""The main job, as a person does it in a real browser and a machine after them, against the real server.

Sign in, look at what a token will be allowed to do, make it, copy or download its secret, try it, run what the page
shows, find it in the list, delete it, see the machine refused.
"""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import ANY  # noqa: TID251 -- for == over a whole JSON body; nothing is mocked
from uuid import uuid4

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser

OWNERS = {"tenant": "For a service", "user": "For me"}
KINDS = {"access_token": "Access token", "client_credentials": "Client credentials"}
SHOWN = {
    "access_token": {"token_id", "access_token"},
    "client_credentials": {"token_id", "client_id", "client_secret"},
}
PROGRAMS = {
    "curl": ["bash"],
    "python": [sys.executable],
    "javascript": ["node"],
    "go": ["go", "run"],
    "httpie": ["bash"],
}
LANGUAGES = {"curl": "curl", "python": "Python", "javascript": "JavaScript", "go": "Go", "httpie": "HTTPie"}
# What shows the answer and nothing else.
AS_JSON = ("curl", "go", "httpie")
TABS_ON_A_PAGE = 80
PHONE = {"width": 360, "height": 740}
SECONDS_TO_RUN = 60


@pytest.fixture(scope="module")
def signed_in(browser, server):
    """The cookies of a person who signed in once, for pages about something else."""
    kept = {}

    def cookies(tenant: str) -> dict:
        if tenant not in kept:
            with browser.new_context(base_url=server.origin) as context:
                sign_in(context.new_page(), server.person(tenant, "admin"))
                kept[tenant] = context.storage_state()
        return kept[tenant]

    return cookies


# What a person does, with the mouse or with the keyboard


class Mouse:
    def __init__(self, page: Page) -> None:
        self.page = page

    def press(self, target: Locator) -> None:
        target.click()

    def choose(self, target: Locator) -> None:
        target.check()

    def write(self, target: Locator, text: str) -> None:
        target.fill(text)


class Keyboard(Mouse):
    """Nothing but Tab, Enter, Space, arrows and letters."""

    def press(self, target: Locator) -> None:
        self._reach(lambda: target.evaluate("it => it === document.activeElement"))
        self.page.keyboard.press("Enter")

    def choose(self, target: Locator) -> None:
        if target.get_attribute("type") == "radio":
            group = target.get_attribute("name")
            self._reach(lambda: self.page.evaluate("document.activeElement.name") == group)
            for _ in range(10):
                if target.is_checked():
                    return
                self.page.keyboard.press("ArrowDown")
        else:
            self._reach(lambda: target.evaluate("it => it === document.activeElement"))
            self.page.keyboard.press("Space")
        expect(target).to_be_checked()

    def write(self, target: Locator, text: str) -> None:
        self._reach(lambda: target.evaluate("it => it === document.activeElement"))
        self.page.keyboard.type(text)

    def _reach(self, arrived) -> None:
        for _ in range(TABS_ON_A_PAGE):
            if arrived():
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"The keyboard does not get there on {self.page.url}.")


HANDS = {"mouse": Mouse, "keyboard": Keyboard}


def sign_in(page: Page, person: dict, hands=Mouse) -> None:
    hand = hands(page)
    page.goto("/")
    hand.write(page.get_by_label("Email"), person["email"])
    hand.write(page.get_by_label("Password"), person["password"])
    hand.press(page.get_by_role("button", name="Sign in", exact=True))
    expect(page.get_by_role("heading", name="API tokens", exact=True)).to_be_visible()


def fill_in(page: Page, *, name: str, owner: str, kind: str, role: str = "Viewer", hands=Mouse) -> None:
    hand = hands(page)
    hand.write(page.get_by_label("Name", exact=True), name)
    hand.choose(page.get_by_role("radio", name=OWNERS[owner]))
    if owner == "tenant":
        hand.choose(page.get_by_role("checkbox", name=role, exact=True))
    hand.press(page.locator("summary", has_text="Restrict further"))
    hand.choose(page.get_by_role("radio", name=KINDS[kind]))


def make_token(page: Page, *, hands=Mouse, **asked: str) -> dict[str, str]:
    """From the list of tokens to the page with the secret; returns what that shows."""
    hands(page).press(page.get_by_role("link", name="New token"))
    expect(page.get_by_role("heading", name="New API token")).to_be_visible()
    fill_in(page, hands=hands, **asked)
    review = page.get_by_role("button", name="Review")
    if review.is_visible():
        hands(page).press(review)
    expect(page.locator("#preview")).to_contain_text("permissions, and no others")
    hands(page).press(page.get_by_role("button", name="Make the token"))
    expect(page.get_by_role("heading", name="Here is your secret")).to_be_visible()
    return read_fields(page)


def read_fields(page: Page) -> dict[str, str]:
    fields = page.locator("[data-field]").all()
    shown = [(field.get_attribute("data-field"), field.inner_text()) for field in fields]
    assert len(dict(shown)) == len(shown)
    return dict(shown)


def secret_of(fields: dict[str, str]) -> str:
    return fields.get("access_token") or fields["client_secret"]


def copy_snippets(page: Page) -> dict[str, str]:
    """The programs under *Connect*, each read after its tab was opened, as a person copies it."""
    code = {}
    for key, label in LANGUAGES.items():
        page.get_by_text(label, exact=True).first.click()
        snippet = page.locator(f'[data-snippet="{key}"]')
        expect(snippet).to_be_visible()
        code[key] = snippet.inner_text()
    return code


def run(key: str, code: str, folder) -> subprocess.CompletedProcess:
    """The program as it stands, in a process of its own."""
    file = folder / f"{key}.{'go' if key == 'go' else 'txt'}"
    file.write_text(code)
    command = [*PROGRAMS[key], str(file)]
    # Where HTTPie is installed, and no settings of its own.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    surroundings = {**os.environ, "PATH": path, "HTTPIE_CONFIG_DIR": str(folder)}
    return subprocess.run(  # noqa: S603 -- ours
        command, capture_output=True, text=True, timeout=SECONDS_TO_RUN, cwd=folder, env=surroundings
    )


def run_all(code: dict[str, str], expected: dict, folder) -> None:
    """Each language that this machine has; a compiler for Go is not asked for."""
    for key in LANGUAGES:
        if key == "go" and shutil.which("go") is None:
            continue
        answer = run(key, code[key], folder)
        assert answer.returncode == 0, (key, answer.stderr)
        if key in AS_JSON:
            assert json.loads(answer.stdout) == expected, key
        else:
            assert all(expected[part] in answer.stdout for part in ("name", "id")), (key, answer.stdout)


def download_env(page: Page, hands) -> dict[str, str]:
    """The variables in the file that the page offers."""
    with page.expect_download() as download:
        hands(page).press(page.get_by_role("link", name="Download .env"))
    assert download.value.suggested_filename.endswith(".env")
    lines = Path(download.value.path()).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def try_it(page: Page, hands) -> dict:
    hands(page).press(page.get_by_role("button", name="Try it now"))
    expect(page.locator("[data-try-status]")).to_have_text("The API answered with status 200.")
    return json.loads(page.locator("[data-try-answer] code").inner_text())


def expected_of(server, tenant: str, fields: dict[str, str], *, name: str, owner: str, kind: str) -> dict:
    """What a machine is told of a token: a viewer's for a service, its maker's own rights for a person."""
    admin, role = server.person(tenant, "admin"), "viewer" if owner == "tenant" else "admin"
    place = server.tenant(tenant)
    environment = next(found for found in server.demo["environments"] if found["id"] == place["environment"])
    held = next(
        found["permissions"]
        for found in server.demo["roles"]
        if (found["key"], found["environment"]) == (role, environment["id"])
    )
    return {
        "id": fields["token_id"],
        "client_id": fields.get("client_id"),
        "name": name,
        "owner": owner,
        "kind": kind,
        "environment": environment["slug"],
        "tenant": place["id"],
        "tenant_external_id": place["external_id"],
        "user": admin["id"] if owner == "user" else None,
        "roles": [role],
        "scope": " ".join(held),
        "expires_at": ANY,
    }


def delete(page: Page, name: str, token_id: str) -> None:
    """From the token's page, past the one that asks."""
    page.get_by_role("link", name="Delete…").click()
    expect(page.get_by_role("heading", name=f"Delete “{name}”?")).to_be_visible()
    expect(page.get_by_text("This cannot be undone.")).to_be_visible()
    page.get_by_role("button", name="Delete this token").click()
    expect(page.get_by_text("The token was deleted.")).to_be_visible()
    expect(page.locator(f'[data-token-id="{token_id}"]')).to_have_count(0)


def delete_from_list(page: Page, name: str, token_id: str, hands) -> None:
    """Found by its name, ticked, and confirmed; by how many are in use, if the server knows of a use by then."""
    hand = hands(page)
    page.goto("/")
    hand.write(page.get_by_label("Find a token"), name)
    hand.press(page.get_by_role("button", name="Filter"))
    expect(page.locator("tr[data-token-id]")).to_have_count(1)
    hand.choose(page.get_by_role("checkbox", name=f"Tick {name}"))
    hand.press(page.get_by_role("group", name="With those that are ticked").get_by_role("button", name="Delete…"))
    expect(page.get_by_role("heading", name="Delete 1 token?")).to_be_visible()
    expect(page.get_by_text("This cannot be undone.")).to_be_visible()
    known, deleted = page.get_by_label("To confirm, say how many"), page.get_by_text("1 token was deleted.")
    for _time in ("first", "when its use became known in between"):
        if deleted.count() == 0:
            if known.count():
                hand.write(known, "1")
            hand.press(page.get_by_role("button", name="Delete 1 token"))
            expect(deleted.or_(known)).to_be_visible()
    expect(deleted).to_be_visible()
    expect(page.locator(f'[data-token-id="{token_id}"]')).to_have_count(0)


def do_the_job(page: Page, server, folder, *, hands=Mouse, has_script=True, **asked: str) -> None:
    sign_in(page, server.person("birch", "admin"), hands)
    fields = make_token(page, hands=hands, **asked)
    assert set(fields) == SHOWN[asked["kind"]]
    secret = secret_of(fields)
    assert secret in download_env(page, hands).values()
    code = copy_snippets(page)

    # The machine, in each of its languages.
    expected = expected_of(server, "birch", fields, **asked)
    run_all(code, expected, folder)
    if has_script:
        assert try_it(page, hands) == expected
    else:
        expect(page.get_by_role("button", name="Try it now")).to_have_count(0)

    # The secret is on no page after this one.
    hands(page).press(page.get_by_role("link", name="I have saved it"))
    expect(page.get_by_role("heading", name=asked["name"])).to_be_visible()
    assert secret not in page.content()
    page.goto("/")
    expect(page.locator(f'[data-token-id="{fields["token_id"]}"]')).to_contain_text(f"ends in {secret[-4:]}")
    assert secret not in page.content()

    if asked["kind"] == "client_credentials":
        delete_from_list(page, asked["name"], fields["token_id"], hands)
    else:
        page.get_by_role("link", name=asked["name"], exact=True).click()
        delete(page, asked["name"], fields["token_id"])
    refused = run("curl", code["curl"], folder)
    assert (refused.returncode, json.loads(refused.stdout)) == (22, REFUSED), refused.stderr
    assert "401" in refused.stderr


REFUSED = {
    "type": "urn:tallystick:problem:invalid_token",
    "title": "Unauthorized",
    "status": 401,
    "detail": "The token is unknown, expired or malformed.",
    "code": "invalid_token",
}


@pytest.mark.parametrize(
    ("owner", "kind", "hands"),
    [
        ("tenant", "client_credentials", "mouse"),
        ("tenant", "access_token", "keyboard"),
        ("user", "client_credentials", "keyboard"),
        ("user", "access_token", "mouse"),
    ],
)
def test_a_person_makes_a_token_that_works_until_they_delete_it(browse, server, tmp_path, owner, kind, hands):
    name = f"Nightly export {uuid4().hex[:6]}"
    do_the_job(browse(), server, tmp_path, name=name, owner=owner, kind=kind, hands=HANDS[hands])


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_job_needs_no_javascript(browse, server, tmp_path, kind):
    page = browse(java_script_enabled=False)
    asked = {"name": f"No script {uuid4().hex[:6]}", "owner": "tenant", "kind": kind}
    do_the_job(page, server, tmp_path, has_script=False, **asked)


# The secret is shown this once


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("again", ["reload", "back and send"])
def test_whoever_sends_the_form_again_sees_no_secret_and_is_offered_a_new_one(browse, signed_in, again, kind):
    page, name = browse(storage_state=signed_in("birch")), f"Again {uuid4().hex[:6]}"
    page.goto("/")
    fields = make_token(page, name=name, owner="tenant", kind=kind)
    secret = secret_of(fields)
    if again == "reload":
        page.reload()
    else:
        page.go_back()
        page.get_by_role("button", name="Make the token").click()
    expect(page.get_by_role("link", name="Make a new secret")).to_be_visible()
    assert read_fields(page) == {}
    assert secret not in page.content()

    page.get_by_role("link", name="Make a new secret").click()
    page.get_by_role("button", name="Rotate", exact=True).click()
    expect(page.get_by_role("heading", name="Here is your new secret")).to_be_visible()
    renewed = read_fields(page)
    assert renewed["token_id"] == fields["token_id"]
    assert secret_of(renewed) != secret
    page.goto("/")
    expect(page.get_by_role("link", name=name, exact=True)).to_have_count(1)


@pytest.mark.parametrize("hands", HANDS.values(), ids=HANDS)
def test_the_copy_button_copies_the_secret_and_says_so(browse, server, signed_in, hands):
    page = browse(storage_state=signed_in("birch"), permissions=["clipboard-read", "clipboard-write"])
    page.goto("/")
    fields = make_token(page, name=f"Copied {uuid4().hex[:6]}", owner="tenant", kind="access_token")
    hands(page).press(page.get_by_role("button", name="Copy Access token"))
    expect(page.locator("#copy-status")).to_have_text("Access token copied to the clipboard.")
    assert page.evaluate("navigator.clipboard.readText()") == fields["access_token"]
    stores = "JSON.stringify([localStorage, sessionStorage, document.cookie])"
    assert fields["access_token"] not in page.evaluate(stores)


def test_the_file_is_made_without_an_address_that_holds_the_secret(browse, signed_in):
    page = browse(storage_state=signed_in("birch"))
    page.goto("/")
    fields = make_token(page, name=f"File {uuid4().hex[:6]}", owner="tenant", kind="access_token")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download .env").click()
    assert download.value.url.startswith("blob:")
    assert f"ACCESS_TOKEN={fields['access_token']}\n" in Path(download.value.path()).read_text()


def test_what_is_tried_on_the_page_is_the_secret_alone(browse, signed_in):
    """Neither the person's cookies nor an address take part."""
    page, sent = browse(storage_state=signed_in("birch")), []
    page.goto("/")
    fields = make_token(page, name=f"Tried {uuid4().hex[:6]}", owner="tenant", kind="access_token")
    page.on("request", lambda request: sent.append(request))
    assert try_it(page, Mouse)["id"] == fields["token_id"]
    assert [request.url.rpartition("/api/")[2] for request in sent] == ["v1/token/self"]
    assert "cookie" not in sent[0].all_headers()
    assert sent[0].all_headers()["authorization"] == f"Bearer {fields['access_token']}"


def test_what_it_may_do_follows_what_is_chosen(browse, signed_in):
    page = browse(storage_state=signed_in("birch"))
    page.goto("/t/birch/tokens/new/")
    preview, said = page.locator("#preview"), page.locator("#preview-said")
    expect(preview).to_contain_text("Choose who it is for")
    page.get_by_role("checkbox", name="Viewer", exact=True).check()
    expect(preview).not_to_contain_text("reports:write")
    expect(preview).to_contain_text("goes on when you leave")
    page.get_by_role("checkbox", name="Member", exact=True).check()
    expect(preview).to_contain_text("reports:write")
    expect(said).to_contain_text("permissions, and no others")
    page.get_by_role("radio", name="For me").check()
    expect(preview).to_contain_text("when you leave Birch Bank it stops at once")
    page.get_by_label("Expires").select_option("never")
    expect(preview).to_contain_text("It never expires")


def test_every_box_of_a_page_is_ticked_at_one_stroke(browse, signed_in):
    page = browse(storage_state=signed_in("birch"))
    page.goto("/")
    make_token(page, name=f"Box {uuid4().hex[:6]}", owner="tenant", kind="access_token")
    page.goto("/t/birch/tokens/?q=box")
    every, boxes = page.get_by_role("checkbox", name="All on this page"), page.locator(".cell-tick input")
    every.check()
    assert all(box.is_checked() for box in boxes.all())
    boxes.first.uncheck()
    assert not every.is_checked()


# Every page of the job


def open_login(page: Page) -> None:
    page.goto("/accounts/login/")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def open_list(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_role("table")).to_be_visible()


def open_conditions(page: Page) -> None:
    open_secret(page)
    page.goto("/t/birch/tokens/?owner=tenant&expiring=&sort=-name&role=viewer")
    expect(page.get_by_label("Made by")).to_be_visible()
    page.locator(".cell-tick input").first.check()


def open_nothing_found(page: Page) -> None:
    page.goto("/t/birch/tokens/?q=nothing-is-called-like-this")
    expect(page.get_by_role("heading", name="No token is like this")).to_be_visible()


def open_ticked(page: Page) -> None:
    open_conditions(page)
    page.get_by_role("group", name="With those that are ticked").get_by_role("button", name="Delete…").click()
    expect(page.get_by_role("heading", name="Delete 1 token?")).to_be_visible()


def open_use(page: Page) -> None:
    page.goto("/t/birch/tokens/?q=a rather long name")
    page.locator("tr[data-token-id] .row-title").first.click()
    page.locator("summary", has_text="As a table").click()
    expect(page.get_by_role("img", name="Use over time")).to_be_visible()


def open_empty_list(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_role("heading", name="No API tokens yet")).to_be_visible()


def open_new(page: Page) -> None:
    page.goto("/t/birch/tokens/new/")
    fill_in(page, name="Any", owner="tenant", kind="access_token")
    expect(page.locator("#preview")).to_contain_text("Who loses access, and when")


def open_refused(page: Page) -> None:
    page.goto("/t/birch/tokens/new/")
    page.get_by_role("button", name="Make the token").click()
    expect(page.get_by_role("alert")).to_contain_text("Please correct this first:")


def open_secret(page: Page) -> dict[str, str]:
    page.goto("/")
    name = f"A rather long name for a token that does a thing each night {uuid4().hex[:6]}"
    return make_token(page, name=name, owner="tenant", kind="client_credentials")


def open_already(page: Page) -> None:
    open_secret(page)
    page.reload()
    expect(page.get_by_role("heading", name="This form was sent twice")).to_be_visible()


def open_detail(page: Page) -> None:
    open_secret(page)
    page.get_by_role("link", name="I have saved it").click()
    expect(page.get_by_role("heading", name="What it may do now")).to_be_visible()


def open_restrictions(page: Page) -> None:
    """Everything under *Restrict further* in sight, with a private key refused."""
    page.goto("/t/birch/tokens/new/")
    fill_in(page, name="Any", owner="tenant", kind="client_credentials")
    page.get_by_role("radio", name="A public key").check()
    page.get_by_label("Its public key").fill("-----BEGIN PRIVATE KEY-----")
    page.get_by_role("button", name="Make the token").click()
    expect(page.get_by_role("alert")).to_contain_text("This is a private key")
    expect(page.get_by_label("Its public key")).to_have_value("")


def open_edit(page: Page) -> None:
    open_detail(page)
    page.get_by_role("link", name="Edit").click()
    page.locator("summary", has_text="Restrict further").click()
    expect(page.get_by_label("Only from these networks")).to_be_visible()


def open_rotate(page: Page) -> None:
    open_detail(page)
    page.get_by_role("link", name="Rotate…").click()
    expect(page.get_by_role("heading", name="Rotate “")).to_be_visible()
    page.get_by_role("radio", name="A public key").check()
    expect(page.get_by_label("Its public key")).to_be_visible()


def open_rotated(page: Page) -> None:
    open_detail(page)
    page.get_by_role("link", name="Rotate…").click()
    page.get_by_role("button", name="Rotate", exact=True).click()
    expect(page.get_by_text("Both work until")).to_be_visible()


def open_under_way(page: Page) -> None:
    open_rotated(page)
    page.get_by_role("link", name="I have saved it").click()
    expect(page.get_by_text("A rotation is under way")).to_be_visible()


def open_second_rotation(page: Page) -> None:
    open_under_way(page)
    page.get_by_role("link", name="Rotate…").click()
    expect(page.get_by_role("heading", name="Did it leak?")).to_be_visible()


def open_completion(page: Page) -> None:
    open_under_way(page)
    page.get_by_role("link", name="Complete now…").click()
    expect(page.get_by_role("heading", name="Complete the rotation of “")).to_be_visible()


def open_cancellation(page: Page) -> None:
    open_under_way(page)
    page.get_by_role("link", name="Cancel the rotation…").click()
    expect(page.get_by_role("heading", name="Cancel the rotation of “")).to_be_visible()


def open_delete(page: Page) -> None:
    open_detail(page)
    page.get_by_role("link", name="Delete…").click()
    expect(page.get_by_role("heading", name="Delete “")).to_be_visible()


def open_audit(page: Page) -> None:
    page.goto("/t/birch/audit/")
    expect(page.get_by_role("heading", name="Audit", exact=False).first).to_be_visible()


# (whose tenant, how to get there); cedar-staging is where no test makes a token.
PAGES = {
    "login": (None, open_login),
    "list": ("birch", open_list),
    "conditions": ("birch", open_conditions),
    "nothing found": ("birch", open_nothing_found),
    "ticked": ("birch", open_ticked),
    "empty list": ("cedar-staging", open_empty_list),
    "new": ("birch", open_new),
    "refused form": ("birch", open_refused),
    "secret": ("birch", open_secret),
    "sent twice": ("birch", open_already),
    "detail": ("birch", open_detail),
    "use over time": ("birch", open_use),
    "restrictions": ("birch", open_restrictions),
    "edit": ("birch", open_edit),
    "rotate": ("birch", open_rotate),
    "rotated": ("birch", open_rotated),
    "rotation under way": ("birch", open_under_way),
    "second rotation": ("birch", open_second_rotation),
    "completion": ("birch", open_completion),
    "cancellation": ("birch", open_cancellation),
    "delete": ("birch", open_delete),
    "audit": ("birch", open_audit),
}


def count_uses(server) -> None:
    """Of every token of the tenant, as the server would have counted them by and by."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0).strftime("%Y-%m-%d %H:%M:%S+00:00")
    for outcome, number in (("granted", 7), ("accepted", 40), ("wrong_secret", 2)):
        server.database.rows(
            "INSERT INTO apitokens_usagehour (environment_id, scope_id, token_id, hour, outcome, count)"
            " SELECT environment_id, tenant_id, id, %s, %s, %s FROM apitokens_apitoken WHERE tenant_id IS NOT NULL"
            " ON CONFLICT DO NOTHING",
            (hour.removesuffix("+00:00") if not server.database.url else hour, outcome, number),
        )


@pytest.fixture
def visit(browse, signed_in, server):
    """Opens a page of the job as somebody who is signed in where that page wants it."""

    def open_page(name: str, **options) -> Page:
        tenant, get_there = PAGES[name]
        page = browse(**options, **({"storage_state": signed_in(tenant)} if tenant else {}))
        if name in ("list", "use over time"):
            open_secret(page)
        if name == "use over time":
            count_uses(server)
        get_there(page)
        return page

    return open_page


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_accessibility_violation_in_light_and_dark(visit, name):
    page, reports = visit(name), []
    for scheme in ("light", "dark"):
        # Without motion, or a colour would be measured half-way from one scheme to the other.
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        results = Axe().run(page)
        if results.violations_count:
            reports.append(f"{scheme}: {results.generate_report()}")
    assert reports == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone(visit, name):
    page = visit(name, viewport=PHONE)
    widths = page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]")
    assert widths == [PHONE["width"], PHONE["width"]], wider_than_the_screen(page)


def wider_than_the_screen(page: Page) -> list[str]:
    return page.evaluate(
        """(width) => [...document.querySelectorAll("main *, header *")]
            .filter((it) => it.getBoundingClientRect().right > width + 1)
            .map((it) => `${it.tagName}.${it.className} ${it.textContent.trim().slice(0, 40)}`)""",
        PHONE["width"],
    )
