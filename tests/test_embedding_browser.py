"""The portal inside another application, in a real browser that gives third parties no cookies.

The application is a page on 127.0.0.1 whose backend does what docs/embedding.md says; the portal is on localhost, which
is another site.
"""

import json
import os
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.backend import BIRCH, Backend
from tests.documents import files

pytestmark = pytest.mark.browser

GRACE = {"id": "usr_8f2c", "email": "grace@birch.example", "name": "Grace Hopper"}
PAGE = """<!DOCTYPE html><html lang="en"><head><title>Acorn</title></head><body><h1>Settings</h1>
<iframe src="{src}" title="API tokens" allow="clipboard-write {portal}" width="900" height="900"></iframe>
</body></html>"""
ATTRIBUTES = "Path=/; HttpOnly; SameSite=None; Secure"
BLOCKING = ["--test-third-party-cookie-phaseout"]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        to = self.server.links.get(path)  # type: ignore[attr-defined]
        if to is not None:
            return self.answer(302, headers=[("Location", to())])
        if path == "/set":
            cookies = [f"plain=1; {ATTRIBUTES}", f"apart=1; {ATTRIBUTES}; Partitioned"]
            return self.answer(302, headers=[("Location", "/seen"), *(("Set-Cookie", cookie) for cookie in cookies)])
        if path == "/seen":
            return self.answer(200, f"seen: {self.headers.get('Cookie', '')}")
        return self.answer(200, self.server.pages.get(path, "<title>Acorn</title><h1>Acorn</h1>"))  # type: ignore[attr-defined]

    def answer(self, status, body="", headers=()):
        self.send_response(status)
        for name, value in [*headers, ("Content-Type", "text/html; charset=utf-8"), ("Cache-Control", "no-store")]:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_said) -> None:
        pass


@pytest.fixture(scope="module")
def backend(server):
    """That of the demo, whose environment lists an origin of this machine on a port that is the product's."""
    return Backend(server)


@pytest.fixture
def product(server, backend, tmp_path):
    """The vendor's own application: `/` frames what `/portal` leads to, as the document has it."""
    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port = web.server_address[1]
    origin = f"http://127.0.0.1:{port}"
    (tmp_path / "portal.py").write_text(files("embedding.md")["portal.py"])
    named = {"TALLYSTICK": server.origin, "TALLYSTICK_TOKEN": backend.own["access_token"]}
    listed(server, backend, [origin])

    def link(user=GRACE, roles=("member",), **more):
        program = (
            f"import portal, json; print(portal.portal_link({BIRCH!r}, **json.loads({asked(user, roles, **more)!r})))"
        )
        run = subprocess.run(  # noqa: S603 -- the document's program
            [sys.executable, "-c", program],
            cwd=tmp_path, env={**os.environ, **named}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        return run.stdout.strip()

    def asked(user, roles, return_url=f"{origin}/settings"):
        return json.dumps({"user": user, "roles": list(roles), "return_url": return_url})

    web.links = {"/portal": link}  # type: ignore[attr-defined]
    web.pages = {
        "/": PAGE.format(src="/portal", portal=server.origin),
        "/control": PAGE.format(src=f"http://localhost:{port}/set", portal=server.origin),
    }  # type: ignore[attr-defined]
    Thread(target=web.serve_forever, daemon=True).start()
    yield SimpleNamespace(origin=origin, web=web, link=link, port=port, named=named)
    web.shutdown()
    web.server_close()
    listed(server, backend, [])


def listed(server, backend, origins):
    server.database.rows(
        "UPDATE tenants_environment SET embedding_origins = %s WHERE slug = %s",
        (json.dumps(origins), backend.environment["slug"]),
    )


@pytest.fixture
def page(browser_type, browser_type_launch_args):
    """A browser of its own that blocks third parties' cookies; no page may break its content policy."""
    arguments = {**browser_type_launch_args, "args": [*browser_type_launch_args["args"], *BLOCKING]}
    browser, complaints = browser_type.launch(**arguments), []
    context = browser.new_context(locale="en-GB")
    context.set_default_timeout(10_000)
    context.on("console", lambda said: said.type == "error" and complaints.append(said.text))
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    page = context.new_page()
    page.complaints = complaints  # type: ignore[attr-defined]
    yield page
    browser.close()


def framed(page):
    return page.frame_locator("iframe")


def make_token(portal, name):
    portal.get_by_role("link", name="New token").first.click()
    portal.get_by_label("Name", exact=True).fill(name)
    portal.get_by_text("Member", exact=True).first.click()
    portal.get_by_role("button", name="Make the token").click()
    expect(portal.get_by_role("heading", name="Here is your secret")).to_be_visible()


def test_in_this_browser_a_third_party_has_no_cookie_that_is_not_partitioned(page, product):
    page.goto(f"{product.origin}/control")
    expect(framed(page).locator("body")).to_have_text("seen: apart=1")


def test_a_token_is_made_inside_the_frame(page, product, server):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(product.origin)
    portal = framed(page)
    expect(portal.get_by_role("heading", name="API tokens", exact=True)).to_be_visible()
    make_token(portal, "From the frame")
    copy = portal.locator("[data-copy=field-access_token]")
    copy.click()
    expect(copy).to_contain_text("Copied")
    with page.expect_download() as saved:
        portal.get_by_role("link", name="Download .env").click()
    assert saved.value.suggested_filename.endswith(".env")
    portal.get_by_role("button", name="Try it now").click()
    expect(portal.get_by_text('"name": "From the frame"')).to_be_visible()
    assert page.url == f"{product.origin}/"
    cookies = {cookie["name"]: cookie for cookie in page.context.cookies(server.origin)}
    assert {"embedded-sessionid", "embedded-csrftoken"} <= set(cookies)
    assert "sessionid" not in cookies
    # Reloaded, the application asks for a new link.
    page.reload()
    expect(framed(page).get_by_role("link", name="From the frame")).to_be_visible()
    assert page.complaints == []


def test_where_the_frame_may_not_copy_the_text_is_selected(page, product):
    """Which is so where `allow` does not name the portal: the frame begins at the product's own origin."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    product.web.pages["/"] = PAGE.format(src="/portal", portal="")
    page.goto(product.origin)
    portal = framed(page)
    make_token(portal, "Not copied")
    portal.locator("[data-copy=field-access_token]").click()
    secret = portal.locator("#field-access_token").inner_text()
    page.wait_for_timeout(500)
    assert page.frames[-1].evaluate("getSelection().toString()").strip() == secret


def test_axe_finds_nothing_in_the_frame(page, product):
    link = product.link()
    for width, scheme in ((900, "light"), (320, "dark")):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        for address in (link, None):
            if address:
                page.goto(address)
            else:
                with page.expect_navigation():
                    page.get_by_role("link", name="New token").first.click()
            found = Axe().run(page).response["violations"]
            assert [violation["id"] for violation in found] == []
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.goto(f"{product.origin}/settings")
    page.goto(product.link().replace("/open/", "/open/x"))
    assert [violation["id"] for violation in Axe().run(page).response["violations"]] == []


def test_back_leads_out_of_the_frame_to_where_somebody_came_from(page, product):
    page.goto(product.origin)
    framed(page).get_by_role("link", name="Back").click()
    page.wait_for_url(f"{product.origin}/settings")


def test_a_frame_of_an_unlisted_origin_stays_blank(page, product, server, backend):
    listed(server, backend, ["https://app.acorn.example"])
    link = product.link(return_url="https://app.acorn.example/")
    product.web.pages["/"] = PAGE.format(src=link, portal=server.origin)
    page.goto(product.origin)
    expect(framed(page).get_by_role("heading", name="API tokens", exact=True)).to_have_count(0)
    assert any("frame-ancestors" in said for said in page.complaints), page.complaints
    assert "tokens" not in page.frames[-1].content()


def test_no_other_page_of_ours_is_framed_by_a_listed_origin(page, product, server):
    product.web.pages["/"] = PAGE.format(src=f"{server.origin}/accounts/login/", portal=server.origin)
    page.goto(product.origin)
    assert any("frame-ancestors" in said for said in page.complaints), page.complaints


def test_a_used_link_is_refused_kindly_in_the_frame(page, product, server):
    link = product.link()
    product.web.pages["/"] = PAGE.format(src=link, portal=server.origin)
    page.goto(product.origin)
    expect(framed(page).get_by_role("heading", name="API tokens", exact=True)).to_be_visible()
    page.context.clear_cookies()
    page.reload()
    expect(framed(page).get_by_role("heading", name="Open it again from where you came")).to_be_visible()


def test_without_a_frame_the_same_pages_work(page, product, server):
    page.goto(f"{product.origin}/portal")
    expect(page.get_by_role("heading", name="API tokens", exact=True)).to_be_visible()
    assert page.url.startswith(f"{server.origin}/embedded/")
    assert "/open/" not in page.url
    page.get_by_role("link", name="New token").first.click()
    expect(page.get_by_label("Name")).to_be_visible()
    page.get_by_role("link", name="Back").first.click()
    page.wait_for_url(f"{product.origin}/settings")


def test_the_documents_javascript_gets_a_link_too(product, page, tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node on this machine")
    (tmp_path / "portal.mjs").write_text(files("embedding.md")["portal.mjs"])
    asked = f"{BIRCH!r}, {json.dumps(GRACE)}, ['member'], {product.origin + '/settings'!r}"
    program = f"import {{ portalLink }} from './portal.mjs'; console.log(await portalLink({asked}));"
    run = subprocess.run(  # noqa: S603 -- the document's program
        [node, "--input-type=module", "-e", program],
        cwd=tmp_path, env={**os.environ, **product.named}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    page.goto(run.stdout.strip())
    expect(page.get_by_role("heading", name="API tokens", exact=True)).to_be_visible()
