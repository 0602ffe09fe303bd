"""Before a token is made, rotated or deleted a person has lately shown who they are: as lately as the vendor says."""

import json
import re
from html import unescape
from urllib.parse import urlencode, urlsplit

import pytest
import time_machine
from allauth.mfa.models import Authenticator
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.test import Client
from django.utils import timezone

from accounts import seeds
from apitokens.governance import invitations
from apitokens.models import ApiToken
from apitokens.pages.confirming import ASKED_FIRST
from apitokens.principals import system
from audit.models import AuditEvent
from tenants.models import Environment
from tests.cast import PASSWORD, accept, bearer, record_proof, removed_from_sso, shown, tokens
from tests.test_security import code_of

HIDDEN = re.compile(r'<input type="hidden" name="([\w-]+)" value="([^"]*)"')
LIMIT = 900


@pytest.fixture
def people(world):
    """Everybody can confirm by a password."""
    for member in (*world.acme.people.values(), *world.office.people.values()):
        member.user.set_password(PASSWORD)
        member.user.save()
    return world


def aged(browser, user, age):
    record_proof(browser, user, age=age)
    session = browser.session
    records = session["account_authentication_methods"]
    session["account_authentication_methods"] = records[-1:]
    session.save()
    return browser


def portal(people, age=LIMIT + 1, role="admin"):
    return aged(people.acme.browser(role), people.acme.people[role].user, age)


def hidden(page):
    return {name: unescape(value) for name, value in HIDDEN.findall(page.split('id="confirm"')[1])}


ACTS = [
    pytest.param("POST", "tokens", {"owner": "tenant", "kind": "access_token", "name": "N", "roles": ["viewer"]}, 201),
    pytest.param("POST", "tokens/{token}/rotate", {}, 201),
    pytest.param("POST", "tokens/{token}/rotate/cancel", None, 200),
    pytest.param("POST", "tokens/{token}/rotate/complete", {"even_if_used": True}, 200),
    pytest.param("DELETE", "tokens/{token}", None, 204),
    pytest.param("POST", "tokens/{token}/disable", None, 200),
    pytest.param("PATCH", "tokens/{token}", {"description": "D"}, 200),
]
FREE = {"tokens/{token}/disable", "PATCH"}


@pytest.mark.parametrize(("age", "limit", "is_recent"), [
    (LIMIT - 5, LIMIT, True), (LIMIT + 5, LIMIT, False), (70, 60, False), (50, 60, True), (20 * 3600, 0, True),
])  # fmt: skip
@pytest.mark.parametrize(("verb", "path", "body", "status"), ACTS)
def test_the_api_asks_a_person_for_a_proof_as_recent_as_the_vendor_says(
    people, verb, path, body, status, age, limit, is_recent
):
    acme = people.acme
    issued = acme.issue("admin", kind="access_token")
    fresh = acme.browser("admin")
    if path.endswith(("cancel", "complete")):
        assert _call(fresh, "POST", f"tokens/{issued.token.token_id}/rotate?tenant={acme.tenant.id}", {}).is_success
    Environment.objects.filter(pk=acme.environment.pk).update(reauthenticate_after=limit)
    where = f"{path.format(token=issued.token.token_id)}?tenant={acme.tenant.id}"
    answer = _call(portal(people, age), verb, where, body)
    if is_recent or path in FREE or verb in FREE:
        assert answer.status_code == status, answer.content
        return
    assert answer.status_code == 403
    assert answer.json() == {
        "type": "urn:tallystick:problem:reauthentication_required",
        "title": "Forbidden",
        "status": 403,
        "detail": "Confirm that it is you: you last did so too long ago for this.",
        "code": "reauthentication_required",
        "confirm_at": "http://localhost:8000/accounts/confirm/",
    }
    assert [token.pk for token in tokens()] == [issued.token.pk]


def _call(browser, verb, path, body):
    answer = browser.generic(
        verb,
        f"/api/v1/{path}",
        data="" if body is None else json.dumps(body),
        content_type="application/json",
        headers={"X-CSRFToken": browser.cookies["csrftoken"].value},
    )
    answer.is_success = answer.status_code < 300
    return answer


def test_a_token_is_never_asked(people):
    Environment.objects.update(reauthenticate_after=60)
    keys = ["environment-tokens:create", "reports:read"]
    token = people.acme.issue_for_environment(roles=(), permissions=keys)
    with time_machine.travel(timezone.now().timestamp() + 7200):
        answer = people.acme.browser("admin").generic(
            "POST",
            "/api/v1/tokens",
            data='{"owner": "environment", "kind": "access_token", "name": "N", "permissions": ["reports:read"]}',
            content_type="application/json",
            headers=bearer(token.plaintext),
        )
    assert answer.status_code == 201, answer.content


def _pages(people):
    """Each page that asks, in the portal and in the console, with what its form sends."""
    acme, office = people.acme, people.office
    own = acme.issue("admin", name="Of the tenant").token.token_id
    backend = acme.issue_for_environment(name="Backend").token.token_id
    for token_id, home in ((own, acme.url()), (backend, office.url(people.production, "tokens/"))):
        is_console = home.startswith("/console/")
        new = {"name": "New", "owner": "environment" if is_console else "tenant", "kind": "access_token"}
        yield is_console, f"{home}new/", {**new, "roles": "backend" if is_console else "viewer"}
        for act in ("rotate/", "rotate/cancel/", "rotate/", "rotate/complete/", "delete/"):
            yield is_console, f"{home}{token_id}/{act}", {}
    for house, home in (
        (acme, f"/t/{acme.tenant.slug}/sso/"),
        (people.globex, office.url(people.production, f"tenants/{people.globex.tenant.id}/sso/")),
    ):
        provider = removed_from_sso(house).tenant.identity_provider
        changed = {"issuer": provider.issuer, "client_id": provider.client_id, "roles": "viewer"}
        for act, typed in (("edit/", changed), ("enforce/", {}), ("remove/", {})):
            # Only who came by it enforces it; the vendor's people take that back.
            type(provider).objects.filter(pk=provider.pk, tenant=people.globex.tenant).update(is_enforced=True)
            yield home.startswith("/console/"), home + act, typed


def test_every_page_of_such_an_act_asks_first_and_then_again_when_its_form_is_late(people):
    walked = set()
    for is_console, path, typed in _pages(people):
        user = (people.office.people if is_console else people.acme.people)["admin"].user
        browser = (people.office if is_console else people.acme).browser("admin")
        page = browser.get(path, follow=False)
        walked.add(page.resolver_match.url_name)
        form = {name: unescape(value) for name, value in re.findall(HIDDEN, page.content.decode())}
        aged(browser, user, LIMIT + 1)
        asked = browser.get(path)
        assert (asked.status_code, asked.headers["Location"]) == (
            302,
            f"/accounts/confirm/?{urlencode({'next': path})}",
        )
        before = list(ApiToken.objects.order_by("pk").values())
        late = browser.post(path, {**form, **typed})
        assert late.status_code == 403, path
        assert list(ApiToken.objects.order_by("pk").values()) == before
        again = {**hidden(late.content.decode()), "confirm-password": PASSWORD}
        done = browser.post(path, again)
        is_from_outside = path == f"/t/{people.acme.tenant.slug}/sso/enforce/"
        assert done.status_code in ({422} if is_from_outside else {200, 302}), (path, done.content.decode())
        assert not re.search(r'id="confirm"', done.content.decode())
    assert walked == ASKED_FIRST


def test_nothing_typed_is_lost_and_the_secret_is_shown_once_all_the_same(people):
    acme = people.acme
    browser = acme.browser("admin")
    form = acme.form(browser)
    aged(browser, acme.people["admin"].user, LIMIT + 1)
    typed = {"name": "Nightly <b>", "owner": "tenant", "kind": "access_token", "roles": "viewer", "description": 'a"b'}
    late = browser.post(acme.url("new/"), {**form, **typed}).content.decode()
    assert tokens() == []
    wrong = browser.post(acme.url("new/"), {**hidden(late), "confirm-password": "wrong"})
    assert (wrong.status_code, tokens()) == (403, [])
    assert "Incorrect password" in wrong.content.decode()
    made = browser.post(acme.url("new/"), {**hidden(wrong.content.decode()), "confirm-password": PASSWORD})
    assert shown(made)["access_token"]
    (token,) = tokens()
    assert (token.name, token.description) == ("Nightly <b>", 'a"b')
    again = browser.post(acme.url("new/"), {**hidden(late), "confirm-password": PASSWORD})
    assert again.status_code == 409


def test_a_form_that_is_wrong_is_told_so_first_and_a_pasted_private_key_is_not_sent_back(people):
    acme = people.acme
    browser = acme.browser("admin")
    form = acme.form(browser)
    aged(browser, acme.people["admin"].user, LIMIT + 1)
    private = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    typed = {
        "name": "CI", "owner": "tenant", "kind": "client_credentials", "roles": "viewer", "proof": "public_key",
        "public_key": private.decode(),
    }  # fmt: skip
    refused = browser.post(acme.url("new/"), {**form, **typed})
    assert refused.status_code == 422
    assert private.decode().splitlines()[1] not in refused.content.decode()


@pytest.mark.parametrize("way", ["password", "code"])
def test_one_confirms_by_whatever_one_has_and_only_by_that(people, way):
    acme, user = people.acme, people.acme.people["admin"].user
    secret = "JBSWY3DPEHPK3PXP"
    if way == "code":
        Authenticator.objects.create(user=user, type="totp", data={"secret": seeds.seal(secret)})
        user.set_unusable_password()
        user.save()
    browser = acme.browser("admin")
    form = {**acme.form(browser), "name": "CI", "owner": "tenant", "kind": "access_token", "roles": "viewer"}
    aged(browser, user, LIMIT + 1)
    said = {"password": PASSWORD, "code": code_of(secret)}
    other = "code" if way == "password" else "password"
    refused = browser.post(acme.url("new/"), {**form, f"confirm-{other}": said[other]})
    assert (refused.status_code, tokens()) == (403, [])
    assert browser.post(acme.url("new/"), {**form, f"confirm-{way}": said[way]}).status_code == 200
    assert len(tokens()) == 1


def test_guesses_on_the_page_that_asks_are_limited_as_signing_in_is(people):
    acme = people.acme
    browser = acme.browser("admin")
    form = {**acme.form(browser), "name": "CI", "owner": "tenant", "kind": "access_token", "roles": "viewer"}
    aged(browser, acme.people["admin"].user, LIMIT + 1)
    for _ in range(11):
        browser.post(acme.url("new/"), {**form, "confirm-password": "wrong"})
    refused = browser.post(acme.url("new/"), {**form, "confirm-password": PASSWORD})
    assert (refused.status_code, tokens()) == (403, [])


def test_somebody_vouched_for_elsewhere_is_told_to_come_from_there_again(people):
    acme = people.acme
    user = acme.people["admin"].user
    type(user).objects.filter(pk=user.pk).update(voucher_id=acme.environment.pk, voucher_user_id="7", password="!")
    user.refresh_from_db()
    browser = acme.browser("admin")
    assert browser.get(acme.url("new/")).status_code == 200
    aged(browser, user, LIMIT + 1)
    refused = browser.get(acme.url("new/"))
    assert refused.status_code == 403
    assert "from another application" in refused.content.decode()


def test_removing_a_member_asks_only_if_tokens_go_with_them(people):
    acme = people.acme
    made = acme.issue("member", name="Theirs").token
    browser = portal(people, role="owner")
    for extra, status in (({"delete_tokens": made.token_id}, 403), ({}, 302)):
        answer = browser.post(
            f"/t/{acme.tenant.slug}/members/{acme.people['member'].pk}/remove/",
            {"csrfmiddlewaretoken": browser.cookies["csrftoken"].value, **extra},
        )
        assert answer.status_code == status, answer.content.decode()
    assert ApiToken.objects.filter(pk=made.pk).exists()


@pytest.mark.parametrize(
    ("before", "after", "is_loosened"),
    [(900, 60, False), (900, 900, False), (0, 900, False), (900, 901, True), (900, 0, True), (60, 86_400, True)],
)
def test_asking_later_takes_a_proof_by_todays_rule_and_is_recorded(people, before, after, is_loosened):
    environment, office = people.production, people.office
    Environment.objects.filter(pk=environment.pk).update(reauthenticate_after=before)
    user = office.people["admin"].user
    path, body = f"environments/{environment.slug}", {"reauthenticate_after": after}
    late = _call(aged(office.browser("admin"), user, 1000), "PATCH", path, body)
    assert late.status_code == (403 if is_loosened else 200)
    assert _call(office.browser("admin"), "PATCH", path, body).json()["reauthenticate_after"] == after
    environment.refresh_from_db()
    assert environment.reauthenticate_after == after
    if before != after:
        event = AuditEvent.objects.get(verb="environment.edited", outcome="done")
        assert (event.before["reauthenticate_after"], event.after["reauthenticate_after"]) == (before, after)


@pytest.mark.parametrize(("amount", "unit", "seconds"), [("20", "60", 1200), ("", "never", 0), ("90", "1", 90)])
def test_the_console_has_it_among_the_settings(people, amount, unit, seconds):
    environment, office = people.production, people.office
    typed = {
        "name": "Production", "colour": "red", "api_identifiers": "https://api.example", "strict_ceiling": "on",
        "signing_algorithm": "ES256", "reauthenticate_after_0": amount, "reauthenticate_after_1": unit,
    }  # fmt: skip
    assert office.post("admin", environment, "settings/", **typed).status_code == 302
    environment.refresh_from_db()
    assert environment.reauthenticate_after == seconds
    page = office.page("admin", environment, "settings/").content.decode()
    assert f'<option value="{unit}" selected>' in page


def test_a_setting_out_of_bounds_is_told_at_its_field(people):
    typed = {
        "name": "Production", "colour": "red", "api_identifiers": "https://api.example", "signing_algorithm": "ES256",
        "reauthenticate_after_0": "59", "reauthenticate_after_1": "1",
    }  # fmt: skip
    refused = people.office.post("admin", people.production, "settings/", **typed)
    assert refused.status_code == 422
    assert "Use 60 seconds to 86400, or 0 to ask nobody again." in refused.content.decode()


def test_whoever_joins_by_an_invitation_has_shown_who_they_are(people):
    asked = {"email": "nia@acme.example", "roles": ["admin"], "at": timezone.now()}
    link = invitations.invite(by=system(people.production), tenant=people.acme.tenant, **asked).link
    browser = Client(enforce_csrf_checks=True)
    assert accept(browser, urlsplit(link).path, name="Nia New", password=PASSWORD).status_code == 302
    assert browser.get(people.acme.url("new/")).status_code == 200
