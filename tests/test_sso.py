"""A tenant's single sign-on, over HTTP, with a provider of its own: who comes in, as whom, and who does not (R12)."""

import json
import re
import time
from html import unescape
from ipaddress import ip_network
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

import pytest
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.test import Client

from accounts import openid
from accounts.models import User
from audit.models import AuditEvent
from tenants.models import IdentityProvider, Membership
from tests.cast import event, events, everything_stored, send, signed_in
from tests.oidc_provider import CLIENT_ID, CLIENT_SECRET, new_key, running_provider


@pytest.fixture(autouse=True)
def _trial(settings):
    settings.OUTBOUND_NETWORKS = [ip_network("127.0.0.0/8")]


@pytest.fixture
def provider():
    with running_provider() as running:
        yield running


@pytest.fixture
def other_provider():
    with running_provider() as running:
        yield running


def body(provider, **changed):
    return {
        "issuer": provider.issuer, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "roles": ["member"],
        **changed,
    }  # fmt: skip


def path(house):
    return f"tenants/{house.tenant.id}/sso"


def set_up(house, provider, role="owner", **changed):
    answer = house.api(role, "PUT", path(house), body(provider, **changed))
    assert answer.status_code == 200, answer.content
    return answer


@pytest.fixture
def sso(acme, provider):
    """Acme with its provider, set up by its owner."""
    set_up(acme, provider)
    return SimpleNamespace(acme=acme, provider=provider)


def begin(browser, house, next_url="", **fields):
    """Where the page behind the button takes the browser."""
    address = f"/t/{house.tenant.slug}/sign-in/"
    page = send(browser, address, next=next_url, **fields)
    assert page.status_code == 200, page.content
    return unescape(re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', page.content.decode())[1])


def come(house, provider, sub="17", browser=None, next_url="", at=None, fields=None, **about):
    """The answer to the browser that comes back from the provider."""
    browser = browser or Client(enforce_csrf_checks=True)
    back = provider.authorize(begin(browser, house, next_url, **(fields or {})), sub, signed_in_at=at, **about)
    answer = browser.get(local(back))
    answer.browser = browser
    return answer


def local(url):
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def vouched(sub="17"):
    return User.objects.get(voucher_user_id=sub)


def who(browser):
    return browser.session.get("_auth_user_id")


# Setting it up


def test_the_owner_sets_it_up_and_is_never_shown_the_secret_again(acme, provider):
    before = acme.api("owner", "GET", path(acme))
    assert before.status_code == 404
    answer = set_up(acme, provider)
    stored = IdentityProvider.objects.get()
    assert answer.json() == {
        "issuer": provider.issuer,
        "client_id": CLIENT_ID,
        "secret_set_at": answer.json()["secret_set_at"],
        "roles": ["member"],
        "enforced": False,
        "redirect_uri": f"http://localhost:8000/t/{acme.tenant.slug}/sign-in/callback/",
        "sign_in_url": f"http://localhost:8000/t/{acme.tenant.slug}/sign-in/",
    }
    assert acme.api("owner", "GET", path(acme)).json() == answer.json()
    assert CLIENT_SECRET not in str(everything_stored())
    assert stored.sealed_secret != CLIENT_SECRET
    done = event("sso.configured")
    assert (done.target_id, done.after["issuer"], done.after["roles"]) == (acme.tenant.id, provider.issuer, ["member"])


def test_a_member_without_the_permission_does_not_see_it(sso):
    answer = sso.acme.api("member", "GET", path(sso.acme))
    assert (answer.status_code, answer.json()["permission"]) == (403, "sso:read")


def test_another_tenant_is_404(sso, globex):
    assert globex.api("owner", "GET", path(sso.acme)).status_code == 404
    assert globex.api("owner", "PUT", path(sso.acme), body(sso.provider)).status_code == 404
    assert globex.api("owner", "DELETE", path(sso.acme)).status_code == 404


def test_nobody_has_newcomers_get_what_they_could_not_give(acme, provider):
    answer = acme.api("admin", "PUT", path(acme), body(provider, roles=["owner"]))
    assert (answer.status_code, answer.json()["code"]) == (403, "role_above_ceiling")
    assert not IdentityProvider.objects.exists()
    assert ("sso.configured", "refused", "role_above_ceiling") in events(tenant_id=acme.tenant.id)


def test_a_changed_client_needs_its_secret_and_an_unchanged_one_keeps_it(sso):
    kept = IdentityProvider.objects.get().sealed_secret
    changed = {name: value for name, value in body(sso.provider).items() if name != "client_secret"}
    assert sso.acme.api("owner", "PUT", path(sso.acme), {**changed, "roles": ["viewer"]}).status_code == 200
    assert IdentityProvider.objects.get().sealed_secret == kept
    answer = sso.acme.api("owner", "PUT", path(sso.acme), {**changed, "client_id": "another"})
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["client_secret"])


def test_another_issuer_does_not_take_the_place_of_the_first_and_gets_its_secret(sso, other_provider):
    changed = {name: value for name, value in body(other_provider).items() if name != "client_secret"}
    answer = sso.acme.api("owner", "PUT", path(sso.acme), changed)
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["issuer"])
    assert IdentityProvider.objects.get().issuer == sso.provider.issuer


def test_of_two_who_change_it_the_second_is_told(sso):
    seen = sso.acme.api("owner", "GET", path(sso.acme)).headers["ETag"]
    first = sso.acme.api("owner", "PUT", path(sso.acme), body(sso.provider, roles=["viewer"]), **{"If-Match": seen})
    second = sso.acme.api("owner", "PUT", path(sso.acme), body(sso.provider, roles=["admin"]), **{"If-Match": seen})
    third = sso.acme.api("owner", "DELETE", path(sso.acme), **{"If-Match": seen})
    assert (first.status_code, second.status_code, third.status_code) == (200, 412, 412)


@pytest.mark.parametrize(
    ("published", "told"),
    [
        ({"issuer": "https://login.example.com"}, "calls itself"),
        ({"token_endpoint": None}, "token_endpoint"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "authorization_endpoint"),
    ],
)
def test_what_is_no_provider_is_told_at_the_field(acme, provider, published, told):
    provider.published = published
    answer = acme.api("owner", "PUT", path(acme), body(provider))
    assert answer.status_code == 400
    assert told in answer.json()["errors"]["issuer"][0]


@pytest.mark.parametrize(
    "issuer", ["", "x", "ftp://example.com", "https://user@example.com", "http://10.0.0.1", "https://e.x?q"]
)
def test_what_is_no_address_of_one_is_told_at_the_field(acme, provider, issuer):
    answer = acme.api("owner", "PUT", path(acme), body(provider, issuer=issuer or " "))
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["issuer"])


def test_whoever_showed_too_long_ago_that_it_is_them_is_asked_first(acme, provider):
    browser = acme.browser("owner")
    an_hour_later(browser)
    csrf = {"X-CSRFToken": browser.cookies["csrftoken"].value}
    answer = browser.put(f"/api/v1/{path(acme)}", body(provider), content_type="application/json", headers=csrf)
    assert (answer.status_code, answer.json()["code"]) == (403, "reauthentication_required")


# Coming in


def test_somebody_new_comes_in_as_a_member_with_the_roles_of_newcomers(sso):
    answer = come(sso.acme, sso.provider, email="nia@corp.example", name="Nia New")
    assert (answer.status_code, answer["Location"]) == (302, f"/t/{sso.acme.tenant.slug}/")
    user = vouched()
    assert (user.email, user.name, user.voucher_id) == (
        "nia@corp.example", "Nia New", IdentityProvider.objects.get().voucher_id,
    )  # fmt: skip
    member = Membership.objects.get(user=user)
    assert (member.tenant, [role.key for role in member.roles.all()]) == (sso.acme.tenant, ["member"])
    assert answer.browser.get(sso.acme.url()).status_code == 200
    assert event("membership.created").actor_id == user.id


def test_who_comes_again_is_the_same_and_called_as_the_provider_calls_them_now(sso):
    come(sso.acme, sso.provider, email="nia@corp.example", name="Nia New")
    come(sso.acme, sso.provider, email="nia@married.example", name=" Nia\n\u202eMarried ")
    assert User.objects.filter(voucher_user_id="17").count() == 1
    assert (vouched().email, vouched().name) == ("nia@married.example", "Nia Married")


def test_what_the_browser_is_sent_with_is_bound_to_it(sso):
    url = begin(Client(enforce_csrf_checks=True), sso.acme)
    asked = dict(parse_qsl(urlsplit(url).query))
    assert asked["code_challenge_method"] == "S256"
    assert {"state", "nonce", "code_challenge"} <= asked.keys()
    assert not any(asked[name] in str(everything_stored()) for name in ("state", "nonce"))


def test_they_make_a_token_without_being_asked_again(sso):
    browser = come(sso.acme, sso.provider).browser
    assert browser.get(sso.acme.url("new/")).status_code == 200
    made = browser.post(sso.acme.url("new/"), {**sso.acme.form(browser), "name": "CI", "owner": "tenant",
                                               "kind": "access_token", "roles": ["viewer"]})  # fmt: skip
    assert made.status_code == 200


def test_somebody_vouched_for_with_anothers_e_mail_opens_nothing_of_theirs(sso, globex, office):
    for house in (sso.acme, globex, office):
        user = house.people["owner"].user
        browser = come(sso.acme, sso.provider, sub=str(user.id), email=user.email, email_verified=True).browser
        assert who(browser) == str(vouched(str(user.id)).id) != str(user.id)
        assert browser.get(globex.url()).status_code == 404
        assert browser.get(f"/console/{globex.environment.slug}/").status_code == 404
        member = Membership.objects.get(user=vouched(str(user.id)))
        assert [role.key for role in member.roles.all()] == ["member"]


def test_the_same_id_from_another_tenants_provider_is_somebody_else(sso, globex, other_provider):
    set_up(globex, other_provider)
    come(sso.acme, sso.provider)
    browser = come(globex, other_provider).browser
    assert User.objects.filter(voucher_user_id="17").count() == 2
    assert browser.get(globex.url()).status_code == 200
    assert browser.get(sso.acme.url()).status_code == 404


def test_the_same_provider_in_two_tenants_vouches_for_two(sso, globex):
    set_up(globex, sso.provider)
    come(sso.acme, sso.provider)
    browser = come(globex, sso.provider).browser
    assert User.objects.filter(voucher_user_id="17").count() == 2
    assert browser.get(sso.acme.url()).status_code == 404


def test_who_was_suspended_or_removed_stays_so(sso):
    browser = come(sso.acme, sso.provider).browser
    member = Membership.objects.get(user=vouched())
    sso.acme.api("owner", "POST", f"members/{member.id}/suspend?tenant={sso.acme.tenant.id}")
    answer = come(sso.acme, sso.provider)
    assert (answer.status_code, who(answer.browser)) == (403, None)
    assert "suspended" in answer.content.decode()
    assert browser.get(sso.acme.url()).status_code == 404
    sso.acme.api("owner", "DELETE", f"members/{member.id}?tenant={sso.acme.tenant.id}")
    answer = come(sso.acme, sso.provider)
    assert (answer.status_code, who(answer.browser)) == (403, None)
    assert "removed" in answer.content.decode()
    member.refresh_from_db()
    assert member.ended_at is not None


def test_an_administrator_lets_somebody_removed_in_again(sso):
    come(sso.acme, sso.provider)
    member = Membership.objects.get(user=vouched())
    where = f"?tenant={sso.acme.tenant.id}"
    assert sso.acme.api("owner", "DELETE", f"members/{member.id}{where}").status_code == 204
    again = f"{path(sso.acme)}/members/{member.id}/readmit"
    assert sso.acme.api("member", "POST", again).status_code == 403
    answer = sso.acme.api("owner", "POST", again)
    assert (answer.status_code, answer.json()["roles"]) == (200, ["member"])
    assert come(sso.acme, sso.provider).status_code == 302
    assert sso.acme.api("owner", "POST", again).status_code == 404


def test_a_role_that_the_chooser_may_not_give_any_more_is_given_to_nobody(acme, provider):
    set_up(acme, provider, role="admin", roles=["admin"])
    assert come(acme, provider, sub="first").status_code == 302
    where = f"?tenant={acme.tenant.id}"
    chooser = acme.people["admin"]
    assert acme.api("owner", "PATCH", f"members/{chooser.id}{where}", {"roles": ["member"]}).status_code == 200
    answer = come(acme, provider, sub="second")
    assert (answer.status_code, who(answer.browser)) == (403, None)
    assert not User.objects.filter(voucher_user_id="second").exists()
    assert ("sso.admitted", "refused", "no_entry") in events(tenant_id=acme.tenant.id)
    assert come(acme, provider, sub="first").status_code == 302
    set_up(acme, provider, roles=["admin"])
    assert come(acme, provider, sub="second").status_code == 302


def test_a_chooser_who_may_still_set_it_up_gives_no_role_above_them(acme, provider, office):
    set_up(acme, provider, roles=["owner"])
    chooser = f"members/{acme.people['owner'].id}?tenant={acme.tenant.id}"
    for role, status in (("admin", 403), ("owner", 302)):
        changed = office.api("owner", "PATCH", chooser, {"roles": [role]}, environment=acme.environment)
        assert changed.status_code == 200
        assert come(acme, provider).status_code == status, role


# What is not believed


def _other_key(provider):
    provider.signed_by = new_key()


def _shared_key(provider):
    provider.signed_by, provider.algorithm = CLIENT_SECRET.ljust(64, "."), "HS256"


def _publish(provider, **bent):
    keys = [{**each, **bent} for each in provider.jwks()["keys"]]
    provider.answers["/jwks"] = 200, json.dumps({"keys": keys}).encode()


def _unsigned(provider):
    provider.signed_by, provider.algorithm = "", "none"


@pytest.mark.parametrize(
    "bend",
    [
        _other_key,
        _shared_key,
        _unsigned,
        lambda provider: provider.header.update(kid="unknown"),
        lambda provider: provider.claims.update(aud="another"),
        lambda provider: provider.claims.update(aud=[CLIENT_ID, "another"]),
        lambda provider: provider.claims.update(azp="another"),
        lambda provider: provider.claims.update(iss="https://login.example.com"),
        lambda provider: provider.claims.update(nonce="another"),
        lambda provider: provider.claims.update(nonce=None),
        lambda provider: provider.claims.update(sub=None),
        lambda provider: provider.claims.update(sub=""),
        lambda provider: provider.claims.update(sub=17),
        lambda provider: provider.claims.update(exp=int(time.time()) - 120),
        lambda provider: provider.claims.update(exp=None),
        lambda provider: provider.claims.update(iat=None),
        lambda provider: provider.claims.update(iat=int(time.time()) + 3600),
        lambda provider: provider.claims.update(auth_time=int(time.time()) + 3600),
        lambda provider: provider.claims.update(auth_time="yesterday"),
        lambda provider: provider.published.update(issuer="https://login.example.com"),
        lambda provider: provider.answers.update({"/token": (200, b'{"id_token": "x.y.z"}')}),
        lambda provider: provider.answers.update({"/token": (200, b"[" * 100_000)}),
        lambda provider: provider.answers.update({"/token": (200, b"<html>")}),
        lambda provider: provider.answers.update({"/token": (500, b"")}),
        lambda provider: provider.answers.update({"/jwks": (200, b'{"keys": [1]}')}),
        lambda provider: provider.answers.update({"/jwks": (200, b"{}")}),
        lambda provider: provider.answers.update({"/jwks": (200, b" " * 300_000)}),
        lambda provider: _publish(provider, n="A" * 60_000, d="B" * 60_000),
        lambda provider: _publish(provider, e="A" * 12),
        lambda provider: _publish(provider, n=17),
        lambda provider: _publish(provider, kty="EC"),
        lambda provider: _publish(provider, use="enc"),
        lambda provider: _publish(provider, alg="RS512"),
    ],
)  # fmt: skip
def test_what_is_not_right_signs_nobody_in(sso, bend):
    browser = Client(enforce_csrf_checks=True)
    browser.raise_request_exception = False
    back = sso.provider.authorize(begin(browser, sso.acme), "17")
    bend(sso.provider)
    answer = browser.get(local(back))
    assert (answer.status_code, who(browser)) == (502, None)
    assert not User.objects.filter(voucher_user_id="17").exists()


def test_of_a_published_key_its_public_part_alone_is_looked_at(sso):
    """A key that fits is found among others, and one that says more of itself than it should does no harm."""
    [key] = sso.provider.jwks()["keys"]
    others = [{"kty": "oct", "k": "AAAA"}, {**key, "kid": "two"}, {"kty": "EC", "crv": "P-256", "kid": key["kid"]}, 17]
    sso.provider.answers["/jwks"] = 200, json.dumps({"keys": [*others, {**key, "d": "AAAA"}]}).encode()
    assert come(sso.acme, sso.provider).status_code == 302


def test_what_is_said_of_somebody_otherwise_than_before_is_recorded(sso):
    for name, recorded in (("Ada", 0), ("Ada", 0), ("Bob (CFO)", 1)):
        assert come(sso.acme, sso.provider, name=name).status_code == 302
        assert AuditEvent.objects.filter(verb="sso.admitted").count() == recorded
    told = event("sso.admitted")
    assert (told.after, told.actor_id) == ({"changed": ["name"]}, vouched().id)


def test_whoever_asks_slowly_takes_nobodys_place(acme, provider, monkeypatch):
    """Another one was set up while the provider was asked."""
    discover = openid.discover

    def meanwhile(issuer, **options):
        monkeypatch.setattr(openid, "discover", discover)
        set_up(acme, provider)
        return discover(issuer, **options)

    monkeypatch.setattr(openid, "discover", meanwhile)
    with running_provider() as another:
        answer = acme.api("owner", "PUT", path(acme), body(another))
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["issuer"])
    assert IdentityProvider.objects.get().issuer == provider.issuer


def test_what_is_said_beside_who_they_are_is_not_needed(sso):
    sso.provider.answers["/userinfo"] = (500, b"")
    assert come(sso.acme, sso.provider, email="nia@corp.example").status_code == 302
    assert (vouched().email, vouched().name) == (None, "")


def test_what_is_said_of_somebody_else_is_not_looked_at(sso):
    sso.provider.answers["/userinfo"] = (200, b'{"sub": "18", "email": "eve@corp.example", "name": "Eve"}')
    come(sso.acme, sso.provider)
    assert (vouched().email, vouched().name) == (None, "")


def test_an_e_mail_that_the_provider_has_not_verified_is_not_kept(sso):
    come(sso.acme, sso.provider, email="eve@corp.example", email_verified=False)
    assert vouched().email is None


def test_an_answer_is_taken_once_and_by_the_browser_that_asked(sso):
    browser, stranger = Client(enforce_csrf_checks=True), Client(enforce_csrf_checks=True)
    back = local(sso.provider.authorize(begin(browser, sso.acme), "17"))
    assert (stranger.get(back).status_code, who(stranger)) == (410, None)
    assert browser.get(back).status_code == 302
    again = browser.get(back)
    assert again.status_code == 410


def test_an_answer_for_one_tenant_is_none_for_another(sso, globex, other_provider):
    set_up(globex, other_provider)
    browser = Client(enforce_csrf_checks=True)
    back = local(sso.provider.authorize(begin(browser, sso.acme), "17"))
    elsewhere = back.replace(sso.acme.tenant.slug, globex.tenant.slug)
    assert (browser.get(elsewhere).status_code, who(browser)) == (410, None)


def test_an_answer_after_ten_minutes_is_none(sso):
    browser = Client(enforce_csrf_checks=True)
    back = local(sso.provider.authorize(begin(browser, sso.acme), "17"))
    session = browser.session
    for errand in session["single_sign_on"].values():
        errand["at"] -= 601
    session.save()
    assert (browser.get(back).status_code, who(browser)) == (410, None)


def test_an_answer_in_the_name_of_another_issuer_is_none(sso):
    browser = Client(enforce_csrf_checks=True)
    back = local(sso.provider.authorize(begin(browser, sso.acme), "17"))
    assert (browser.get(f"{back}&iss=https://other.example").status_code, who(browser)) == (502, None)


def test_no_link_begins_a_sign_in_and_no_other_site_does(sso):
    browser = Client(enforce_csrf_checks=True)
    address = f"/t/{sso.acme.tenant.slug}/sign-in/"
    assert browser.get(address).status_code == 200
    assert browser.post(address).status_code == 403
    assert sso.provider.asked == []


def test_who_cancels_there_is_told(sso):
    browser = Client(enforce_csrf_checks=True)
    state = dict(parse_qsl(urlsplit(begin(browser, sso.acme)).query))["state"]
    answer = browser.get(f"/t/{sso.acme.tenant.slug}/sign-in/callback/?error=access_denied&state={state}")
    assert answer.status_code == 422
    assert "let nobody in" in answer.content.decode()


def test_nobody_is_sent_on_to_another_site_afterwards(sso):
    for elsewhere in ("https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)"):
        answer = come(sso.acme, sso.provider, next_url=elsewhere)
        assert answer["Location"] == f"/t/{sso.acme.tenant.slug}/"
    assert come(sso.acme, sso.provider, next_url=sso.acme.url("new/"))["Location"] == sso.acme.url("new/")


def test_a_provider_that_is_away_is_a_page_and_no_fault_of_ours(sso):
    sso.provider.server.shutdown()
    sso.provider.server.server_close()
    browser = Client(enforce_csrf_checks=True)
    began = time.monotonic()
    answer = send(browser, f"/t/{sso.acme.tenant.slug}/sign-in/")
    assert (answer.status_code, who(browser)) == (502, None)
    assert "did not answer as it should" in answer.content.decode()
    assert time.monotonic() - began < 6


def test_every_address_looks_alike_before_it_is_used(sso, globex):
    seen = set()
    for slug in (sso.acme.tenant.slug, globex.tenant.slug, "never-was"):
        answer = Client().get(f"/t/{slug}/sign-in/")
        text = answer.content.decode().replace(slug, "SLUG")
        seen.add((answer.status_code, re.sub(r'value="[^"]{20,}"', "", text)))
    assert len(seen) == 1


def test_without_single_sign_on_there_is_no_way_on(sso, globex):
    for slug in (globex.tenant.slug, "never-was"):
        answer = send(Client(enforce_csrf_checks=True), f"/t/{slug}/sign-in/")
        assert answer.status_code == 422
        assert "no single sign-on at this address" in answer.content.decode()


def test_the_tenant_is_found_by_its_address_or_a_part_of_it(acme):
    slug = acme.tenant.slug
    for named in (slug, slug.upper(), f"https://tokens.example/t/{slug}/tokens/?q=1"):
        answer = send(Client(enforce_csrf_checks=True), "/sign-in/", tenant=named, next=acme.url())
        assert answer["Location"] == f"/t/{slug}/sign-in/?next={acme.url().replace('/', '%2F')}"
    assert send(Client(enforce_csrf_checks=True), "/sign-in/", tenant="not one").status_code == 422


# Showing again who one is


def an_hour_later(browser):
    session = browser.session
    for record in session["account_authentication_methods"]:
        record["at"] -= 3600
    session.save()


def test_asked_again_they_go_to_their_provider_and_come_back_to_the_page(sso):
    browser = come(sso.acme, sso.provider).browser
    an_hour_later(browser)
    asked = browser.get(sso.acme.url("new/"))
    assert asked.status_code == 403
    assert f'action="/t/{sso.acme.tenant.slug}/sign-in/"' in asked.content.decode()
    answer = come(sso.acme, sso.provider, browser=browser, next_url=sso.acme.url("new/"), fields={"again": "1"})
    assert (answer.status_code, answer["Location"]) == (302, sso.acme.url("new/"))
    assert (sso.provider.asked[-1]["prompt"], sso.provider.asked[-1]["max_age"]) == ("login", "0")
    assert browser.get(sso.acme.url("new/")).status_code == 200


@pytest.mark.parametrize("case", ["long ago", "not said", "somebody else"])
def test_what_is_no_proof_of_now_is_none(sso, case):
    browser = come(sso.acme, sso.provider).browser
    an_hour_later(browser)
    if case == "not said":
        sso.provider.claims["auth_time"] = None
    answer = come(
        sso.acme,
        sso.provider,
        sub="18" if case == "somebody else" else "17",
        browser=browser,
        at=time.time() - 900 if case == "long ago" else None,
        fields={"again": "1"},
    )
    assert answer.status_code == 403
    assert who(browser) == str(vouched().id)
    assert browser.get(sso.acme.url("new/")).status_code == 403


def test_a_session_that_the_provider_had_long_since_is_no_proof(sso):
    browser = come(sso.acme, sso.provider, at=time.time() - 3600).browser
    assert browser.get(sso.acme.url()).status_code == 200
    assert browser.get(sso.acme.url("new/")).status_code == 403


# The only way in


def administrator(sso):
    """Somebody who came by it, and was made an owner."""
    browser = come(sso.acme, sso.provider, sub="boss").browser
    member = Membership.objects.get(user=vouched("boss"))
    changed = sso.acme.api("owner", "PATCH", f"members/{member.id}?tenant={sso.acme.tenant.id}", {"roles": ["owner"]})
    assert changed.status_code == 200
    return browser


def put(browser, house, sent):
    csrf = {"X-CSRFToken": browser.cookies["csrftoken"].value}
    return browser.put(f"/api/v1/{path(house)}", sent, content_type="application/json", headers=csrf)


def test_only_who_came_by_it_makes_it_the_only_way_in(sso, office):
    enforced = body(sso.provider, enforced=True)
    by_owner = sso.acme.api("owner", "PUT", path(sso.acme), enforced)
    by_vendor = office.api("owner", "PUT", path(sso.acme), enforced, environment=sso.acme.environment)
    assert (by_owner.status_code, by_owner.json()["code"]) == (403, "sign_in_with_it_first")
    assert (by_vendor.status_code, by_vendor.json()["code"]) == (403, "sign_in_with_it_first")
    boss = administrator(sso)
    assert put(boss, sso.acme, enforced).status_code == 200
    assert event("sso.changed").after["enforced"] is True


def test_then_who_signs_in_here_is_shown_the_way_and_opens_nothing(sso):
    local_browser = sso.acme.browser("owner")
    assert put(administrator(sso), sso.acme, body(sso.provider, enforced=True)).status_code == 200
    answer = local_browser.get(sso.acme.url())
    assert (answer.status_code, answer["Location"].partition("?")[0]) == (302, f"/t/{sso.acme.tenant.slug}/sign-in/")
    assert local_browser.get(f"/api/v1/tokens?tenant={sso.acme.tenant.id}").status_code == 404
    assert sso.acme.tenant.name in local_browser.get("/").content.decode()
    assert come(sso.acme, sso.provider).status_code == 302


def test_the_vendor_opens_the_other_way_again(sso, office):
    boss = administrator(sso)
    put(boss, sso.acme, body(sso.provider, enforced=True))
    answer = office.api("admin", "PUT", path(sso.acme), body(sso.provider), environment=sso.acme.environment)
    assert (answer.status_code, answer.json()["enforced"]) == (200, False)
    assert sso.acme.browser("owner").get(sso.acme.url()).status_code == 200


def test_the_last_who_can_come_in_and_manage_members_is_not_sent_away(sso):
    boss = administrator(sso)
    put(boss, sso.acme, body(sso.provider, enforced=True))
    csrf = {"X-CSRFToken": boss.cookies["csrftoken"].value}
    member = Membership.objects.get(user=vouched("boss"))
    where = f"/api/v1/members/{member.id}?tenant={sso.acme.tenant.id}"
    answer = boss.delete(where, headers=csrf)
    assert (answer.status_code, answer.json()["code"]) == (409, "last_owner")
    answer = boss.delete(f"/api/v1/{path(sso.acme)}", headers=csrf)
    assert answer.status_code == 204, "the local owners can come in again"


# Ending it


def test_removed_it_signs_out_whom_it_signed_in(sso):
    browser = come(sso.acme, sso.provider).browser
    assert browser.get(sso.acme.url()).status_code == 200
    assert sso.acme.api("owner", "DELETE", path(sso.acme)).status_code == 204
    assert browser.get(sso.acme.url()).status_code == 302
    assert who(browser) is None
    assert event("sso.removed").before["issuer"] == sso.provider.issuer


def test_set_up_again_it_brings_back_the_same_people_and_no_old_session(sso):
    browser = come(sso.acme, sso.provider).browser
    user = vouched()
    sso.acme.api("owner", "DELETE", path(sso.acme))
    set_up(sso.acme, sso.provider)
    assert browser.get(sso.acme.url()).status_code == 302
    assert come(sso.acme, sso.provider).status_code == 302
    assert User.objects.get(voucher_user_id="17") == user


def test_another_issuer_that_calls_somebody_the_same_vouches_for_somebody_else(sso, other_provider):
    old = come(sso.acme, sso.provider).browser
    member = Membership.objects.get(user=vouched())
    sso.acme.api("owner", "DELETE", path(sso.acme))
    set_up(sso.acme, other_provider)
    come(sso.acme, other_provider)
    assert User.objects.filter(voucher_user_id="17").count() == 2
    assert old.get(sso.acme.url()).status_code == 302
    # Nor by a session that is made otherwise: who vouches for them vouches here no more.
    assert signed_in(member.user).get(sso.acme.url()).status_code == 404


def test_an_answer_that_comes_after_it_was_removed_is_none(sso):
    browser = Client(enforce_csrf_checks=True)
    back = local(sso.provider.authorize(begin(browser, sso.acme), "17"))
    sso.acme.api("owner", "DELETE", path(sso.acme))
    assert (browser.get(back).status_code, who(browser)) == (410, None)


def test_its_secret_goes_under_a_new_key_and_without_any_nobody_is_sent_away(sso, settings, capsys):
    old, new = settings.KEY_ENCRYPTION_KEYS, Fernet.generate_key().decode()
    settings.KEY_ENCRYPTION_KEYS = [new, *old]
    call_command("keys")
    assert "and 1 client secrets" in capsys.readouterr().out
    call_command("keys", "reencrypt")
    assert "Client secrets of single sign-on encrypted anew: 1." in capsys.readouterr().out
    settings.KEY_ENCRYPTION_KEYS = [new]
    assert come(sso.acme, sso.provider).status_code == 302
    settings.KEY_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    call_command("keys")
    assert "No key-encryption key opens 1 client secrets" in capsys.readouterr().err
    assert send(Client(enforce_csrf_checks=True), f"/t/{sso.acme.tenant.slug}/sign-in/").status_code == 502


# The pages


def test_the_pages_do_the_same(acme, provider):
    browser = acme.browser("owner")
    where = f"/t/{acme.tenant.slug}/sso/"
    assert f"{acme.tenant.slug}/sign-in/callback/" in browser.get(where).content.decode()
    refused = send(browser, f"{where}edit/", issuer=provider.issuer, client_id=CLIENT_ID, client_secret=CLIENT_SECRET)
    assert refused.status_code == 422
    assert CLIENT_SECRET not in refused.content.decode()
    sent = body(provider)
    assert send_form(browser, f"{where}edit/", **sent)["Location"] == where
    shown = browser.get(where).content.decode()
    assert provider.issuer in shown
    assert CLIENT_SECRET not in shown + browser.get(f"{where}edit/").content.decode()
    assert send_form(browser, f"{where}remove/")["Location"] == where
    assert not IdentityProvider.objects.exists()


def send_form(browser, address, **fields):
    """The form of that page as rendered, sent."""
    page = browser.get(address).content.decode()
    main = page[page.index("<main") :]
    hidden = {name: unescape(value) for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', main)}
    return browser.post(address, {**hidden, **fields})


def test_tried_out_it_says_what_it_was_told_and_signs_nobody_in(sso):
    browser = sso.acme.browser("owner")
    csrf = {"csrfmiddlewaretoken": browser.cookies["csrftoken"].value}
    page = browser.post(f"/t/{sso.acme.tenant.slug}/sso/try/", csrf)
    url = unescape(re.search(r"url=([^\"]+)\"", page.content.decode())[1])
    back = sso.provider.authorize(url, "17", email="nia@corp.example", name="Nia New")
    answer = browser.get(local(back))
    assert answer.status_code == 200
    assert "nia@corp.example" in answer.content.decode()
    assert who(browser) == str(sso.acme.people["owner"].user.id)
    assert not User.objects.filter(voucher_user_id="17").exists()


def test_the_vendors_people_do_it_in_the_console(sso, office):
    environment = sso.acme.environment
    where = f"tenants/{sso.acme.tenant.id}/sso/"
    assert sso.provider.issuer in office.page("auditor", environment, where).content.decode()
    put(administrator(sso), sso.acme, body(sso.provider, enforced=True))
    assert office.post("auditor", environment, f"{where}enforce/").status_code == 403
    assert office.post("admin", environment, f"{where}enforce/").status_code == 302
    assert IdentityProvider.objects.get().is_enforced is False
    assert office.post("admin", environment, f"{where}remove/").status_code == 302
    assert not IdentityProvider.objects.exists()


def test_in_the_record_is_no_e_mail_and_no_secret(sso):
    come(sso.acme, sso.provider, email="nia@corp.example", name="Nia New")
    sso.acme.api("owner", "DELETE", path(sso.acme))
    told = str([(each.before, each.after) for each in AuditEvent.objects.all()])
    assert "nia@corp.example" not in told
    assert CLIENT_SECRET not in told
