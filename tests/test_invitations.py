"""An invitation: shown once, for one person, worth what its sender may hand out when it is accepted (R1, R3)."""

import logging
import re
from datetime import timedelta

import pytest
import time_machine
from django.core import mail
from django.test import Client
from django.utils import timezone

from accounts.models import User
from apitokens.governance import invitations, offers
from apitokens.principals import ConsolePrincipal
from apitokens.setup import give_role
from audit.actors import Actor
from audit.models import ActorKind, AuditEvent
from audit.services import Refusal
from config.logs import formatter
from tenants.models import Environment, Invitation, Membership, Role, Tenant
from tests.cast import PASSWORD, accept, bearer, everything_stored, iso, join, just_signed_in
from tests.factories import UserFactory
from tests.racing import Call, held, ready, wait_for_blocked

NEW = "new@example.com"


def send(house, who="admin", email=NEW, roles=("viewer",), **headers):
    body = {"email": email, "roles": list(roles)}
    return house.api(who, "POST", f"invitations?tenant={house.tenant.id}", body, **headers)


def link_of(house, who="admin", **asked):
    answer = send(house, who, **asked)
    assert answer.status_code == 201, answer.content
    return answer.json()["link"].removeprefix("http://localhost:8000")


def roles_of(email, house):
    found = Membership.objects.filter(user__email__iexact=email, tenant=house.tenant, ended_at__isnull=True)
    return [sorted(member.roles.values_list("key", flat=True)) for member in found]


# Sending.


@pytest.mark.parametrize(
    ("who", "roles", "code"),
    [
        pytest.param("admin", ["viewer"], None, id="below"),
        pytest.param("admin", ["admin"], None, id="equal"),
        pytest.param("admin", ["owner"], "role_above_ceiling", id="above"),
        pytest.param("admin", ["viewer", "owner"], "role_above_ceiling", id="one-of-two-above"),
        pytest.param("owner", ["owner"], None, id="owners-invite-owners"),
        pytest.param("admin", [], "invalid", id="no-role"),
        pytest.param("admin", ["nonesuch"], "invalid", id="unknown-role"),
        pytest.param("member", ["viewer"], "insufficient_scope", id="without-the-permission"),
    ],
)
def test_a_member_invites_to_roles_up_to_their_own(acme, who, roles, code):
    answer = send(acme, who, roles=roles)
    assert answer.json().get("code") == code
    assert Invitation.objects.count() == (0 if code else 1)


@pytest.mark.parametrize(
    "email", ["", "nobody", "nobody\x00@example.com", "a@b", "x" * 250 + "@example.com", "a b@example.com"]
)
def test_what_is_no_e_mail_address_is_refused_at_its_field(acme, email):
    answer = send(acme, email=email)
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["email"])


def test_the_whole_of_an_invitation_is_in_the_answer_and_its_link_in_no_other(acme):
    made = send(acme).json()
    found = Invitation.objects.get()
    listed = {
        "id": str(found.id),
        "email": NEW,
        "roles": ["viewer"],
        "created_at": iso(found.created_at),
        "expires_at": iso(found.expires_at),
    }
    link = made.pop("link")
    assert made == listed
    assert acme.api("admin", "GET", f"invitations?tenant={acme.tenant.id}").json()["results"] == [listed]
    assert re.fullmatch(r"http://localhost:8000/invitations/[\w-]{43}/", link)
    assert found.expires_at - found.created_at == timedelta(days=7)


def test_with_mail_the_link_is_sent_and_in_no_answer(acme, settings):
    settings.SENDS_MAIL = True
    answer = send(acme)
    assert answer.json()["link"] is None
    [sent] = mail.outbox
    assert (sent.to, sent.subject) == ([NEW], "Invitation to Acme")
    link = re.search(r"http://localhost:8000(/invitations/\S+)", sent.body)[1]
    assert link.encode() not in answer.content
    assert join(link).status_code == 302
    assert roles_of(NEW, acme) == [["viewer"]]


def test_a_mail_that_could_not_be_sent_leaves_no_invitation(acme, settings):
    settings.SENDS_MAIL, settings.EMAIL_BACKEND = True, "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    answer = send(acme)
    assert (answer.status_code, answer.json()["code"]) == (503, "mail_failed")
    assert not Invitation.objects.exists()
    verbs = (
        AuditEvent.objects.filter(verb__startswith="invitation.").order_by("at", "id").values_list("verb", flat=True)
    )
    assert list(verbs) == ["invitation.sent", "invitation.withdrawn"]


def test_a_new_invitation_to_the_same_person_replaces_the_open_one(acme):
    first = link_of(acme)
    second = link_of(acme, email=NEW.upper(), roles=["member"])
    assert Client().get(first).status_code == 404
    assert join(second).status_code == 302
    assert roles_of(NEW, acme) == [["member"]]


def test_there_is_a_bound_on_open_invitations(acme, monkeypatch):
    monkeypatch.setattr(offers, "OPEN_AT_MOST", 2)
    for number in range(2):
        link_of(acme, email=f"n{number}@example.com")
    answer = send(acme)
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_invitations")
    link_of(acme, email="n1@example.com")
    with time_machine.travel(timezone.now() + timedelta(days=8), tick=True):
        link_of(acme)


def test_a_member_is_not_invited_again(acme):
    for _ in range(2):
        answer = send(acme, email=acme.people["viewer"].user.email.upper())
        assert (answer.status_code, answer.json()["code"]) == (409, "already_member")
        assert list(answer.json()["errors"]) == ["email"]
        acme.api("admin", "POST", f"members/{acme.people['viewer'].id}/suspend?tenant={acme.tenant.id}")


def test_a_revoked_link_is_like_one_that_never_was(acme):
    link = link_of(acme)
    found = Invitation.objects.get()
    path = f"invitations/{found.id}?tenant={acme.tenant.id}"
    assert acme.api("member", "DELETE", path).status_code == 403
    assert acme.api("admin", "DELETE", path).status_code == 204
    assert acme.api("admin", "DELETE", path).status_code == 404
    answers = [Client().get(address) for address in (link, f"/invitations/{'x' * 43}/")]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].content == answers[1].content
    assert "a newer mail may have replaced it" in answers[0].content.decode()


# Accepting.


def test_somebody_new_makes_an_account_and_is_signed_in(acme):
    link = link_of(acme, roles=["member"])
    browser = Client(enforce_csrf_checks=True)
    page = browser.get(link)
    text = page.content.decode()
    assert (page.status_code, "no-store" in page.headers["Cache-Control"]) == (200, True)
    assert page.headers["Referrer-Policy"] == "same-origin"
    for said in (str(acme.people["admin"].user), "Acme", "Member", NEW):
        assert said in text
    assert accept(browser, link, name="Nia New", password=PASSWORD).status_code == 302
    assert browser.get(acme.url()).status_code == 200
    user = User.objects.get(email=NEW)
    assert (user.name, user.check_password(PASSWORD)) == ("Nia New", True)
    events = list(AuditEvent.objects.filter(actor_id=user.id).order_by("at").values_list("verb", "after"))
    assert events == [
        ("invitation.accepted", {"roles": ["member"]}),
        ("membership.created", {"user": str(user.id), "roles": ["member"], "suspended_at": None, "ended_at": None}),
    ]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"password": "short"}, "password"),
        ({"password": "password1234"}, "password"),
        ({"password": NEW}, "password"),
        ({"name": " "}, "name"),
    ],
)
def test_a_weak_password_or_no_name_makes_no_account_and_keeps_the_invitation(acme, fields, field):
    link = link_of(acme)
    answer = join(link, **fields)
    assert answer.status_code == 422
    assert f'id="id_{field}_error"' in answer.content.decode()
    assert f'value="{fields.get("password", PASSWORD)}"' not in answer.content.decode()
    assert not User.objects.filter(email=NEW).exists()
    assert join(link).status_code == 302


def test_somebody_with_an_account_signs_in_and_comes_back(acme):
    user = UserFactory(email=NEW)
    user.set_password(PASSWORD)
    user.save()
    link = link_of(acme)
    browser = Client(enforce_csrf_checks=True)
    page = browser.get(link).content.decode()
    assert 'name="password"' not in page
    login = re.search(r'href="(/accounts/login/\?next=[^"]+)"', page)[1]
    form = browser.get(login).content.decode()
    fields = dict(re.findall(r'name="(csrfmiddlewaretoken|next)" value="([^"]+)"', form))
    answer = browser.post("/accounts/login/", {**fields, "login": NEW, "password": PASSWORD})
    assert (answer.status_code, answer.headers["Location"]) == (302, link)
    assert accept(browser, link).status_code == 302
    assert roles_of(NEW, acme) == [["viewer"]]


def test_without_signing_in_an_account_that_exists_is_not_joined_nor_replaced(acme):
    user = UserFactory(email=NEW)
    link = link_of(acme)
    browser = Client(enforce_csrf_checks=True)
    browser.get("/accounts/login/")
    csrf = browser.cookies["csrftoken"].value
    browser.post(link, {"csrfmiddlewaretoken": csrf, "name": "Mallory", "password": PASSWORD})
    user.refresh_from_db()
    assert (roles_of(NEW, acme), user.name == "Mallory", user.check_password(PASSWORD)) == ([], False, False)


def test_a_signed_in_person_with_another_e_mail_is_refused_and_told_no_address(acme, globex):
    link = link_of(acme)
    browser = globex.browser("viewer")
    page = browser.get(link)
    assert page.status_code == 403
    csrf = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.content.decode())[1]
    answer = browser.post(link, {"csrfmiddlewaretoken": csrf})
    assert answer.status_code == 403
    for said in (page, answer):
        assert NEW not in said.content.decode()
        assert "Acme" not in said.content.decode()
    assert Membership.objects.filter(tenant=acme.tenant).count() == 4


def test_a_vouched_identity_never_matches_by_e_mail(acme):
    vouched = UserFactory(email=NEW, voucher_id=acme.environment.id, voucher_user_id="17")
    link = link_of(acme)
    browser = just_signed_in(vouched)
    assert browser.get(link).status_code == 403
    csrf = browser.cookies["csrftoken"].value
    assert browser.post(link, {"csrfmiddlewaretoken": csrf}).status_code == 403
    # To somebody new the page offers an account, as if the vouched one were not there.
    assert join(link).status_code == 302
    assert User.objects.filter(email=NEW).count() == 2


@pytest.mark.parametrize(("days", "status"), [(6.99, 302), (7, 410), (30, 410)])
def test_an_invitation_is_good_for_seven_days(acme, days, status):
    link = link_of(acme)
    with time_machine.travel(Invitation.objects.get().created_at + timedelta(days=days), tick=False):
        assert join(link).status_code == status
    assert len(roles_of(NEW, acme)) == (1 if status == 302 else 0)


def test_an_invitation_works_once(acme):
    link = link_of(acme)
    assert join(link).status_code == 302
    answers = [Client().get(link), just_signed_in(User.objects.get(email=NEW)).get(link), join(link)]
    assert [answer.status_code for answer in answers] == [409] * 3
    assert "has been used already" in answers[0].content.decode()
    assert roles_of(NEW, acme) == [["viewer"]]


CLOSED = {
    "tenant-suspended": lambda house, at: Tenant.objects.filter(pk=house.tenant.pk).update(suspended_at=at),
    "tenant-deleted": lambda house, at: Tenant.objects.filter(pk=house.tenant.pk).update(deleted_at=at),
    "environment-suspended": lambda house, at: Environment.objects.update(suspended_at=at),
    "environment-deleted": lambda house, at: Environment.objects.update(deleted_at=at),
}


@pytest.mark.parametrize("close", [pytest.param(None, id="open"), *CLOSED])
def test_nobody_joins_what_is_suspended_or_deleted(acme, close):
    link = link_of(acme)
    if close is not None:
        CLOSED[close](acme, timezone.now())
    assert join(link).status_code == (302 if close is None else 409)
    assert User.objects.filter(email=NEW).exists() == (close is None)


@pytest.mark.parametrize(
    ("close", "code", "text"),
    [
        ("tenant-suspended", "tenant_closed", "Nobody can join Acme while it or its environment is suspended."),
        ("tenant-deleted", "deleted", "Acme is deleted. Restore it first"),
        ("environment-suspended", "tenant_closed", "Nobody can join Acme while it or its environment is suspended."),
        ("environment-deleted", "deleted", "Production is deleted. Restore it first"),
    ],
)
def test_whoever_invites_into_what_is_closed_is_told_so_themselves(world, acme, close, code, text):
    tenant = Tenant.objects.select_related("environment").get(pk=acme.tenant.pk)
    CLOSED[close](acme, timezone.now())
    member = world.office.people["owner"]
    by = ConsolePrincipal(
        actor=Actor(kind=ActorKind.USER, id=member.user_id, label=str(member.user)),
        environment=acme.environment,
        tenant=tenant,
        permissions=frozenset(),
        vendor_membership=member,
    )
    with pytest.raises(Refusal) as refused:
        invitations.invite(by=by, tenant=tenant, email=NEW, roles=["viewer"], at=timezone.now())
    assert refused.value.code == code
    assert str(refused.value).startswith(text)


def _demote(house):
    house.people["admin"].membership_roles.all().delete()
    give_role(house.people["admin"], house.role("member"))


def _ada(**change):
    return lambda house: Membership.objects.filter(pk=house.people["admin"].pk).update(**change)


def _level(level):
    return lambda house: Role.objects.filter(pk=house.role("member").pk).update(level=level)


FALLS = {
    "nothing": (lambda house: None, True),
    "demoted": (_demote, False),
    "suspended": (_ada(suspended_at=timezone.now()), False),
    "left": (_ada(ended_at=timezone.now()), False),
    "role-raised": (_level(31), False),
    "role-deleted": (lambda house: house.role("member").delete(), False),
    "raised-to-the-ceiling": (_level(30), True),
}


@pytest.mark.parametrize("fall", FALLS)
def test_an_invitation_is_worth_what_its_sender_may_hand_out_when_it_is_accepted(acme, fall):
    link = link_of(acme, roles=["member"])
    happen, is_good = FALLS[fall]
    happen(acme)
    answer = join(link)
    assert answer.status_code == (302 if is_good else 409)
    assert User.objects.filter(email=NEW).exists() == is_good
    if not is_good:
        assert "ask for a new invitation" in answer.content.decode()
        refused = AuditEvent.objects.get(verb="invitation.accepted", outcome="refused")
        assert (refused.reason, refused.tenant_id) == ("invitation_void", acme.tenant.id)


@pytest.mark.parametrize("end", ["nothing", "disabled", "deleted"])
def test_an_invitation_sent_by_a_token_is_worth_what_the_token_may_hand_out(acme, end):
    issued = acme.issue_for_environment(kind="access_token")
    answer = Client().post(
        f"/api/v1/invitations?tenant={acme.tenant.id}", {"email": NEW, "roles": ["owner"]},
        content_type="application/json", headers=bearer(issued.plaintext),
    )  # fmt: skip
    link = answer.json()["link"].removeprefix("http://localhost:8000")
    if end == "disabled":
        type(issued.token).objects.update(disabled_at=timezone.now())
    if end == "deleted":
        issued.token.delete()
    assert join(link).status_code == (302 if end == "nothing" else 409)
    assert roles_of(NEW, acme) == ([["owner"]] if end == "nothing" else [])


@pytest.mark.parametrize(("days", "resumes"), [(1, True), (8, False)])
def test_who_was_removed_and_is_invited_again_is_the_same_member(acme, days, resumes):
    token = acme.issue("member", owner="user").plaintext
    mo = acme.people["member"]
    mo.user.set_password(PASSWORD)
    mo.user.save()
    acme.api("admin", "DELETE", f"members/{mo.id}?tenant={acme.tenant.id}")
    with time_machine.travel(timezone.now() + timedelta(days=days), tick=True):
        link = link_of(acme, email=mo.user.email)
        assert accept(just_signed_in(mo.user), link).status_code == 302
        assert Client().get("/api/v1/token/self", headers=bearer(token)).status_code == (200 if resumes else 401)
    assert Membership.objects.filter(user=mo.user, tenant=acme.tenant).count() == 1
    assert roles_of(mo.user.email, acme) == [["viewer"]]


# What is written down.


def test_the_key_of_a_link_is_nowhere_but_in_its_answer(acme, caplog):
    """Neither in the database, session and messages included, nor in the log, whatever becomes of the link."""
    lines = []

    class Lines(logging.Handler):
        def emit(self, record):
            lines.append(formatter().format(record))

    handler = Lines()
    logging.getLogger().addHandler(handler)
    try:
        browser = acme.browser("admin")
        address = f"/t/{acme.tenant.slug}/members/invite/"
        csrf = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', browser.get(address).content.decode())[1]
        page = browser.post(address, {"csrfmiddlewaretoken": csrf, "email": NEW, "roles": ["viewer"]})
        link = re.search(r'data-field="link">http://localhost:8000(/invitations/([\w-]+)/)<', page.content.decode())
        path, key = link[1], link[2]
        assert key not in browser.get(f"/t/{acme.tenant.slug}/members/").content.decode()
        Client().get(path)
        join(path)
        Client().get(path)
        Invitation.objects.all().delete()
        Client().get(path)
    finally:
        logging.getLogger().removeHandler(handler)
    assert page.status_code == 200
    assert "no-store" in page.headers["Cache-Control"]
    assert len([line for line in lines if "/invitations/[redacted]" in line]) >= 5
    assert key not in "\n".join(lines)
    assert key not in str(everything_stored())
    assert key.encode() not in b"".join(bytes(row.digest) for row in Invitation.objects.all())
    assert NEW not in " ".join(everything_stored()["audit_auditevent"])


def test_an_invitations_id_in_an_address_is_no_secret_and_stays_in_the_log(acme):
    record = logging.makeLogRecord({"msg": "/api/v1/invitations/01890a5d-ac96-774b-bcce-b302099a8057"})
    assert "01890a5d-ac96-774b-bcce-b302099a8057" in formatter().format(record)


# Pages.


def test_the_page_lists_open_invitations_and_revokes_them(acme):
    for number in range(7):
        link_of(acme, email=f"n{number}@example.com")
    browser = acme.browser("admin")
    page = browser.get(f"/t/{acme.tenant.slug}/members/").content.decode()
    assert [f"n{number}@example.com" in page for number in range(7)] == [False, False, True, True, True, True, True]
    every = browser.get(f"/t/{acme.tenant.slug}/members/invitations/").content.decode()
    assert "n0@example.com" in every
    csrf = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[1]
    revoke = re.search(r'action="([^"]+/revoke/)"', page)[1]
    assert browser.post(revoke, {"csrfmiddlewaretoken": csrf}).status_code == 302
    assert Invitation.objects.count() == 6


def test_on_the_page_a_refusal_keeps_what_was_typed(acme):
    browser = acme.browser("admin")
    address = f"/t/{acme.tenant.slug}/members/invite/"
    csrf = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', browser.get(address).content.decode())[1]
    answer = browser.post(address, {"csrfmiddlewaretoken": csrf, "email": NEW, "roles": ["viewer", "owner"]})
    page = answer.content.decode()
    assert answer.status_code == 422
    assert f'value="{NEW}"' in page
    assert re.search(r'value="viewer"[^>]*checked', page)
    assert not Invitation.objects.exists()


# Races: on PostgreSQL, where transactions really run beside each other.


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_two_acceptances_at_once_one_wins(world, acme):
    user = UserFactory(email=NEW)
    link = link_of(acme)
    browsers = [just_signed_in(user) for _ in range(2)]
    for browser in browsers:
        browser.raise_request_exception = False
    tokens = [
        re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', b.get(link).content.decode())[1] for b in browsers
    ]
    with held(acme.tenant):
        accepting = [
            Call(lambda b=b, csrf=csrf: b.post(link, {"csrfmiddlewaretoken": csrf}))
            for b, csrf in zip(browsers, tokens, strict=True)
        ]
        wait_for_blocked(2)
    assert sorted(each.result().status_code for each in accepting) == [302, 409]
    assert Membership.objects.filter(user=user).count() == 1


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_two_new_accounts_by_one_link_one_is_made(world, acme):
    link = link_of(acme)
    browsers = [Client(enforce_csrf_checks=True, raise_request_exception=False) for _ in range(2)]
    tokens = [
        re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', b.get(link).content.decode())[1] for b in browsers
    ]
    with held(acme.tenant):
        accepting = [
            Call(
                lambda b=b, csrf=csrf: b.post(link, {"csrfmiddlewaretoken": csrf, "name": "Nia", "password": PASSWORD})
            )
            for b, csrf in zip(browsers, tokens, strict=True)
        ]
        wait_for_blocked(2)
    assert sorted(each.result().status_code for each in accepting) == [302, 409]
    assert User.objects.filter(email=NEW).count() == 1


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_demotion_of_the_sender_that_comes_first_voids_an_acceptance_that_has_begun(world, acme):
    user = UserFactory(email=NEW)
    link = link_of(acme, roles=["admin"])
    browser = just_signed_in(user)
    browser.raise_request_exception = False
    csrf = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', browser.get(link).content.decode())[1]
    with held(acme.people["admin"]):
        _demote(acme)
        accepting = Call(lambda: browser.post(link, {"csrfmiddlewaretoken": csrf}))
        wait_for_blocked(1)
    assert accepting.result().status_code == 409
    assert not Membership.objects.filter(user=user).exists()


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_two_invitations_to_one_person_at_once_one_is_open(world, acme):
    body = {"email": NEW, "roles": ["viewer"]}
    calls = [ready(acme, who, "post", f"invitations?tenant={acme.tenant.id}", body) for who in ("admin", "owner")]
    with held(acme.tenant):
        inviting = [Call(call) for call in calls]
        wait_for_blocked(2)
    assert [each.result().status_code for each in inviting] == [201, 201]
    assert Invitation.objects.count() == 1


def test_a_key_is_looked_up_whole(acme):
    link = link_of(acme)
    assert invitations.find(link.split("/")[2]).email == NEW
    assert Client().get(link[:-2] + "/").status_code == 404
