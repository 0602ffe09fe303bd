"""Django's admin: absent unless asked for, for superusers alone, nearly read-only, and every change an event."""

import importlib
import re

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import clear_url_caches
from django.utils import timezone

from accounts.models import User
from audit.models import AuditEvent
from config import rescue, urls
from tenants.models import Membership, VendorMembership
from tests.cast import bearer, everything_stored, jwt_of
from tests.factories import UserFactory

OF_SESSIONS = ("django_session", "usersessions_usersession")
MODELS = [
    "accounts/user", "apitokens/apitoken", "apitokens/tokentype", "audit/auditevent", "tenants/environment",
    "tenants/membership", "tenants/role", "tenants/tenant", "tenants/vendormembership",
]  # fmt: skip


@pytest.fixture
def mounted(settings):
    """As after a start with ADMIN=true."""
    settings.ADMIN = True
    _reload()
    yield
    settings.ADMIN = False
    _reload()


def _reload():
    importlib.reload(urls)
    clear_url_caches()


@pytest.fixture
def operator(mounted, db):
    """A superuser, signed in."""
    user = UserFactory(is_staff=True, is_superuser=True)
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    client.user = user
    return client


def post(client, path, **fields):
    page = client.get(path)
    assert page.status_code == 200, path
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.content.decode())[1]
    return client.post(path, {"csrfmiddlewaretoken": token, **fields})


def change(user):
    return f"/admin/accounts/user/{user.pk}/change/"


def events():
    rows = AuditEvent.objects.filter(verb="admin.changed").order_by("at", "id")
    return [(row.actor_id, row.target_kind, row.target_id, row.before, row.after) for row in rows]


def test_it_is_absent_unless_asked_for(acme):
    client = Client()
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    for path in ("/admin/", "/admin/login/", "/admin/accounts/user/"):
        assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"is_staff": True, "is_superuser": True}, 200),
        ({"is_staff": True}, 404),
        ({"is_superuser": True}, 404),
        ({}, 404),
        ({"is_staff": True, "is_superuser": True, "is_active": False}, 302),
    ],
)
def test_it_is_for_active_superusers_of_the_staff_alone(mounted, db, fields, status):
    client = Client()
    client.force_login(UserFactory(**fields))
    assert client.get("/admin/", follow=fields.get("is_active", True)).status_code == status


def test_sign_in_is_where_everybody_signs_in(mounted, db):
    answer = Client().get("/admin/accounts/user/", follow=True)
    assert answer.redirect_chain[-1][0].startswith("/accounts/login/?next=")
    User.objects.create_superuser("operator@example.com", "correct horse battery")
    client = Client()
    path = answer.redirect_chain[-1][0]
    answer = client.post(path, {"login": "operator@example.com", "password": "correct horse battery"}, follow=True)
    assert (answer.status_code, answer.request["PATH_INFO"]) == (200, "/admin/accounts/user/")


def test_createsuperuser_makes_an_operator_and_nobody_twice(db, monkeypatch):
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "correct horse battery")
    call_command("createsuperuser", interactive=False, email="operator@example.com", verbosity=0)
    user = User.objects.get()
    assert (user.is_staff, user.is_superuser, user.check_password("correct horse battery")) == (True, True, True)
    with pytest.raises(CommandError, match="signs in with this e-mail already"):
        call_command("createsuperuser", interactive=False, email="Operator@Example.com", verbosity=0)


@pytest.mark.parametrize("model", MODELS)
def test_lists_and_pages_open_add_and_delete_do_not_exist(world, operator, model):
    world.acme.issue("admin")
    rows = rescue.site._registry
    row = next(kind for kind in rows if f"{kind._meta.app_label}/{kind._meta.model_name}" == model).objects.first()
    assert operator.get(f"/admin/{model}/", {"q": "nothing"}).status_code == 200
    listed = operator.get(f"/admin/{model}/")
    page = operator.get(f"/admin/{model}/{row.pk}/change/")
    assert (listed.status_code, page.status_code) == (200, 200)
    assert "unsafe" not in page["Content-Security-Policy"]
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|\sstyle=", page.content.decode() + listed.content.decode())
    for path in ("add/", f"{row.pk}/delete/"):
        assert operator.get(f"/admin/{model}/{path}").status_code == 403
    assert sorted(f"{kind._meta.app_label}/{kind._meta.model_name}" for kind in rows) == MODELS


def test_no_digest_no_key_and_no_secret_is_shown(world, operator):
    token = world.acme.issue("admin", kind="client_credentials", roles=["member"])
    user = world.acme.people["admin"].user
    user.set_password("correct horse battery")
    user.save()
    secret, key = token.token.secrets.get(), world.production.signing_keys.get()
    hidden = [
        token.plaintext, bytes(secret.digest).hex(), bytes(key.private_key_encrypted).decode(),
        user.password, user.password.split("$")[2][:6], user.password.split("$")[3][:6],
    ]  # fmt: skip
    for kind in rescue.site._registry:
        model = f"{kind._meta.app_label}/{kind._meta.model_name}"
        for row in kind.objects.all()[:30]:
            text = operator.get(f"/admin/{model}/{row.pk}/change/").content.decode()
            assert [found for found in hidden if found in text] == []


@pytest.mark.parametrize("model", [model for model in MODELS if model != "accounts/user"])
def test_the_rest_is_read_only(world, operator, model):
    world.acme.issue("admin")
    kind = next(k for k in rescue.site._registry if f"{k._meta.app_label}/{k._meta.model_name}" == model)
    row = kind.objects.first()
    path = f"/admin/{model}/{row.pk}/change/"
    before = everything_stored(but=OF_SESSIONS)
    assert post(operator, path, name="Changed", is_enabled="").status_code == 403
    assert everything_stored(but=OF_SESSIONS) == before


def test_locking_somebody_out_is_an_event_and_kills_their_tokens_jwts_for_good(world, operator, machine):
    member = world.acme.people["admin"]
    client = world.acme.issue("admin", owner="user", kind="client_credentials")
    jwt = jwt_of(machine, client)
    name = member.user.name
    assert post(operator, change(member.user), name=name).status_code == 302
    assert machine.get("/api/v1/token/self", headers=bearer(jwt)).status_code == 401
    assert post(operator, change(member.user), name=name, is_active="on").status_code == 302
    assert machine.get("/api/v1/token/self", headers=bearer(jwt)).status_code == 401
    fresh = jwt_of(machine, client)
    assert machine.get("/api/v1/token/self", headers=bearer(fresh)).status_code == 200
    who = (operator.user.pk, "user", member.user_id)
    assert events() == [
        (*who, {"is_active": True}, {"is_active": False}),
        (*who, {"is_active": False}, {"is_active": True}),
    ]


def test_a_name_is_changed_without_being_in_the_record(world, operator):
    user = world.acme.people["viewer"].user
    assert post(operator, change(user), name="Another Name", is_active="on", is_superuser="on").status_code == 302
    user.refresh_from_db()
    assert (user.name, user.is_superuser) == ("Another Name", False)
    assert events() == [(operator.user.pk, "user", user.pk, {"name": ""}, {"name": "changed"})]
    assert not LogEntry.objects.exists()


def test_saving_without_a_change_leaves_no_event(world, operator):
    user = world.acme.people["viewer"].user
    assert post(operator, change(user), name=user.name, is_active="on").status_code == 302
    assert events() == []


@pytest.mark.parametrize(
    ("password", "status"), [("another horse battery", 302), ("short", 200), ("password1234", 200)]
)
def test_a_password_is_set_within_the_rules_and_is_an_event(world, operator, password, status):
    user = world.acme.people["viewer"].user
    path = f"/admin/accounts/user/{user.pk}/password/"
    answer = post(operator, path, password1=password, password2=password, usable_password="true")
    assert answer.status_code == status
    user.refresh_from_db()
    assert user.check_password(password) == (status == 302)
    done = [(operator.user.pk, "user", user.pk, {}, {"password": "set"})]
    assert events() == (done if status == 302 else [])
    assert password not in str(everything_stored())


def test_nobody_can_be_made_of_somebody_erased_and_a_vouched_person_gets_no_password(world, operator):
    erased = UserFactory(is_active=False, erased_at=timezone.now())
    vouched = User.objects.create(voucher_id=world.production.pk, voucher_user_id="7")
    assert post(operator, change(erased), name="Back", is_active="on").status_code == 403
    for user in (erased, vouched):
        assert operator.get(f"/admin/accounts/user/{user.pk}/password/").status_code == 403


@pytest.mark.parametrize("kind", ["membership", "vendormembership"])
def test_members_are_suspended_and_reinstated_by_the_rules_of_everywhere(world, office, operator, kind):
    member = world.acme.people["admin"] if kind == "membership" else office.people["admin"]
    model = {"membership": Membership, "vendormembership": VendorMembership}[kind]
    path = f"/admin/tenants/{kind}/"

    def act(action):
        answer = post(operator, path, action=action, _selected_action=str(member.pk), index="0")
        assert answer.status_code == 302
        now = model.objects.get(pk=member.pk)
        return now.suspended_at is not None, now.generation

    assert [act("suspend"), act("suspend"), act("reinstate")] == [(True, 1), (True, 1), (False, 1)]
    rows = AuditEvent.objects.filter(target_id=member.pk, outcome="done", environment_id=world.production.pk)
    noun = {"membership": "membership", "vendormembership": "vendor_membership"}[kind]
    assert list(rows.order_by("at", "id").values_list("verb", "actor_id")) == [
        (f"{noun}.suspended", operator.user.pk),
        (f"{noun}.reinstated", operator.user.pk),
    ]


def test_the_last_owner_of_the_vendor_is_not_suspended_and_it_says_why(world, office, operator):
    owner = office.people["owner"]
    post(operator, "/admin/tenants/vendormembership/", action="suspend", _selected_action=str(owner.pk), index="0")
    assert "last owner" in operator.get("/admin/tenants/vendormembership/").content.decode()
    assert VendorMembership.objects.get(pk=owner.pk).suspended_at is None


def test_events_are_found_by_id(world, operator):
    token = world.acme.issue("admin").token
    page = operator.get("/admin/audit/auditevent/", {"q": str(token.pk)}).content.decode()
    assert page.count("field-verb") == 1
