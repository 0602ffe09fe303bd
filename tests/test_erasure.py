"""Erasing: a person who asks for it, and what has been on hold long enough. The record and slugs stay."""

import threading
from datetime import timedelta
from io import StringIO
from uuid import uuid4

import pytest
from allauth.account.models import EmailAddress
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.utils import timezone

from accounts.models import User
from apitokens.governance import erasure, invitations, members
from apitokens.models import ApiToken, SigningKey, TokenType
from apitokens.principals import system
from apitokens.setup import give_role
from audit.actors import SYSTEM
from audit.models import AuditEvent, Person
from config import housekeeping
from tenants.models import (
    Environment,
    Invitation,
    Membership,
    Role,
    RolePermission,
    TakenSlug,
    Tenant,
    VendorMembership,
    VendorMembershipEnvironment,
)
from tests.cast import bearer, everything_stored, jwt_of
from tests.factories import MembershipFactory, VendorMembershipFactory

SELF = "/api/v1/token/self"
RECORD = ("audit_auditevent", "tenants_takenslug")


def works(machine, issued):
    return machine.get(SELF, headers=bearer(issued.plaintext)).status_code == 200


def erase(person, *options):
    out = StringIO()
    call_command("erase_user", str(person), *options, stdout=out)
    return out.getvalue()


@pytest.fixture
def ada(world):
    """Acme's admin, who has left traces everywhere that a person can."""
    acme, membership = world.acme, world.acme.people["admin"]
    user = membership.user
    user.name, user.email = "Ada Lovelace-Unmistakable", "ada.unmistakable@example.com"
    user.set_password("correct horse battery")
    user.save()
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    world.personal = acme.issue("admin", name="Ada's laptop", owner="user")
    world.client = acme.issue("admin", name="Ada's client", owner="user", kind="client_credentials")
    world.tenants = acme.issue("admin", name="CI", kind="access_token")
    assert acme.api("admin", "POST", f"tokens/{world.tenants.token.token_id}/disable").status_code == 200
    assert acme.api("admin", "POST", f"tokens/{world.tenants.token.token_id}/enable").status_code == 200
    acme.browser("admin").get("/")
    by = system(world.globex.environment)
    invitations.invite(by=by, tenant=world.globex.tenant, email=user.email, roles=["viewer"], at=timezone.now())
    return user


def test_nothing_of_an_erased_person_is_left_but_an_id(world, ada, machine):
    traces = ("unmistakable", "Unmistakable", "Ada's")
    jwt = jwt_of(machine, world.client)
    record = everything_stored()["audit_auditevent"]
    said = erase(ada.email)
    stored = everything_stored()
    assert not [
        (table, row)
        for table, rows in stored.items()
        for row in rows
        for trace in traces
        if trace in row and (table not in RECORD or trace != "Ada's")  # a token's name stays in its tombstone
    ]
    assert set(record) < set(stored["audit_auditevent"])
    gone = User.objects.get(pk=ada.pk)
    assert (gone.email, gone.name, gone.is_active, gone.has_usable_password(), str(gone)) == (
        f"{ada.pk}@erased.invalid", "", False, False, "A former member"
    )  # fmt: skip
    assert gone.erased_at is not None
    assert not Person.objects.filter(pk=ada.pk).exists()
    assert not machine.login(email="ada.unmistakable@example.com", password="correct horse battery")
    assert machine.get(SELF, headers=bearer(jwt)).status_code == 401
    assert "2 personal tokens deleted" in said
    assert "1 memberships of tenants and 0 of vendors ended" in said
    assert "1 invitations withdrawn" in said


def test_personal_tokens_go_with_their_events_and_the_tenants_stay(world, ada, machine):
    assert works(machine, world.personal)
    erase(ada.pk)
    assert not works(machine, world.personal)
    assert works(machine, world.tenants)
    deleted = AuditEvent.objects.filter(verb="apitoken.deleted").values_list("target_id", "actor_kind", "tenant_id")
    tokens = (world.personal.token.pk, world.client.token.pk)
    assert sorted(deleted) == sorted((pk, "system", world.acme.tenant.id) for pk in tokens)
    ended = Membership.objects.get(pk=world.acme.people["admin"].pk)
    assert (ended.ended_at is not None, ended.generation) == (True, 1)
    verbs = AuditEvent.objects.filter(target_id__in=[ended.pk, ada.pk]).order_by("at", "id")
    assert list(verbs.values_list("verb", flat=True)) == ["membership.ended", "user.erased"]
    page = world.acme.browser("owner").get(f"/t/{world.acme.tenant.slug}/audit/").content.decode()
    assert "A former member" in page
    token_page = world.acme.browser("owner").get(world.acme.url(f"{world.tenants.token.token_id}/"))
    assert "A former member" in token_page.content.decode()


def test_all_sessions_of_an_erased_person_end_and_nobody_elses(world, ada):
    theirs, others = world.acme.browser("admin"), world.acme.browser("owner")
    erase(ada.email)
    assert theirs.get(world.acme.url()).status_code == 302
    assert others.get(world.acme.url()).status_code == 200
    assert str(ada.pk) not in str(everything_stored()["django_session"])


@pytest.mark.parametrize("force", [False, True])
def test_the_last_keeper_of_a_tenant_is_erased_only_by_force(world, force):
    acme = world.acme
    owner = acme.people["owner"].user
    before = everything_stored()
    if force:
        erase(owner.pk, "--force")
        assert User.objects.get(pk=owner.pk).erased_at is not None
    else:
        with pytest.raises(CommandError, match=r"last owner.*--force.*Nothing was changed"):
            erase(owner.pk)
        assert {k: v for k, v in everything_stored().items() if k != "audit_auditevent"} == {
            k: v for k, v in before.items() if k != "audit_auditevent"
        }


@pytest.mark.parametrize("force", [False, True])
def test_the_last_owner_of_a_vendor_is_erased_only_by_force(world, office, force):
    owner = office.people["owner"]
    if force:
        erase(owner.user_id, "--force")
    else:
        with pytest.raises(CommandError, match="--force"):
            erase(owner.user_id)
    member = VendorMembership.objects.get(pk=owner.pk)
    assert (member.ended_at is not None, member.generation) == (force, int(force))
    assert (User.objects.get(pk=owner.user_id).erased_at is not None) == force


def test_a_second_owner_may_be_erased(world, office):
    second = VendorMembershipFactory(vendor=world.vendor, role="owner")
    erase(second.user_id)
    assert VendorMembership.objects.get(pk=second.pk).ended_at is not None


def test_whoever_is_unknown_or_erased_before_is_said_so(world, ada):
    erase(ada.pk)
    for person in (ada.pk, "ada.unmistakable@example.com", uuid4(), "nobody@example.com"):
        with pytest.raises(CommandError, match=r"[Nn]othing was changed"):
            erase(person)


def test_a_vouched_person_keeps_no_word_of_their_voucher(world):
    user = User.objects.create(voucher_id=uuid4(), voucher_user_id="their-own-id", name="Vo")
    membership = MembershipFactory(tenant=world.acme.tenant, user=user)
    erase(user.pk)
    user.refresh_from_db()
    assert (user.email, user.voucher_user_id) == (None, f"{user.pk}@erased.invalid")
    assert Membership.objects.get(pk=membership.pk).ended_at is not None


@pytest.mark.parametrize(("days", "kept"), [(6.99, True), (7, False), (100, False)])
def test_personal_tokens_of_who_left_are_erased_after_seven_days(world, days, kept):
    acme, at = world.acme, timezone.now()
    personal = acme.issue("member", owner="user", name="Mine").token
    others = [acme.issue("admin", owner="user", name="Not theirs").token, acme.issue("member", name="CI").token]
    members.remove(by=system(acme.environment), membership=acme.people["member"], at=at)
    housekeeping.run(at=at + timedelta(days=days))
    assert ApiToken.objects.filter(pk=personal.pk).exists() == kept
    assert ApiToken.objects.filter(pk__in=[token.pk for token in others]).count() == 2
    events = AuditEvent.objects.filter(target_id=personal.pk, verb="apitoken.deleted")
    assert [(event.actor_kind, event.before["token_id"]) for event in events] == (
        [] if kept else [("system", personal.token_id)]
    )
    assert erasure.erase_due(at=at + timedelta(days=days)) == 0


@pytest.mark.parametrize(("days", "kept"), [(29.99, True), (30, False)])
def test_invitations_are_erased_thirty_days_after_their_end(world, days, kept):
    at = timezone.now()
    by = system(world.production)
    for person, accepted in (("a", True), ("b", False)):
        row = invitations.invite(
            by=by, tenant=world.acme.tenant, email=f"{person}@example.com", roles=["viewer"], at=at - timedelta(days=8)
        ).invitation
        Invitation.objects.filter(pk=row.pk).update(expires_at=at, accepted_at=at if accepted else None)
    erasure.erase_due(at=at + timedelta(days=days))
    assert Invitation.objects.count() == (2 if kept else 0)


def populate(world):
    """A row of everything that can be under Acme or production."""
    acme = world.acme
    own = Role.objects.create(environment=acme.environment, tenant=acme.tenant, key="own:bots", name="Bots", level=5)
    RolePermission.objects.create(
        role=own, permission=acme.environment.permissions.get(key="reports:read"), environment=acme.environment
    )
    give_role(acme.people["member"], own)
    acme.issue("owner", name="Robot", roles=["own:bots"], kind="client_credentials")
    acme.issue("admin", name="Mine", owner="user")
    acme.issue_for_environment(name="Backend")
    by = system(acme.environment)
    invitations.invite(by=by, tenant=acme.tenant, email="new@example.com", roles=["own:bots"], at=timezone.now())
    limited = VendorMembershipFactory(vendor=world.vendor, role="admin", in_all_environments=False)
    VendorMembershipEnvironment.objects.create(
        vendor_membership=limited, environment=acme.environment, vendor=world.vendor
    )


def naming(stored, row):
    return {
        table
        for table, rows in stored.items()
        for text in rows
        if table not in RECORD and (str(row.pk) in text or row.pk.hex in text)
    }


@pytest.mark.parametrize(("days", "kept"), [(29.99, True), (30, False)])
def test_a_deleted_tenant_is_erased_whole_after_thirty_days(world, days, kept):
    populate(world)
    acme, at = world.acme, timezone.now()
    Tenant.objects.filter(pk=acme.tenant.pk).update(deleted_at=at)
    before = everything_stored()
    housekeeping.run(at=at + timedelta(days=days))
    after = everything_stored()
    assert (naming(after, acme.tenant) == set()) != kept
    for row in (world.globex.tenant, world.globex.people["admin"], acme.people["admin"].user, world.production):
        assert naming(after, row) >= naming(before, row) - naming(before, acme.tenant)
    assert Tenant.objects.filter(pk=world.globex.tenant.pk).exists()
    assert TakenSlug.objects.filter(slug=acme.tenant.slug).exists()
    ends = AuditEvent.objects.filter(tenant_id=acme.tenant.pk, verb__in=["tenant.erased", "apitoken.deleted"])
    assert sorted(ends.values_list("verb", flat=True)) == (
        [] if kept else ["apitoken.deleted", "apitoken.deleted", "tenant.erased"]
    )
    assert set(before["audit_auditevent"]) <= set(after["audit_auditevent"])
    assert erasure.erase_due(at=at + timedelta(days=days)) == 0


@pytest.mark.parametrize(("hours", "kept"), [(71.99, True), (72, False)])
def test_a_deleted_environment_is_erased_whole_after_seventy_two_hours(world, hours, kept):
    populate(world)
    at = timezone.now()
    Environment.objects.filter(pk=world.production.pk).update(deleted_at=at)
    before = everything_stored()
    housekeeping.run(at=at + timedelta(hours=hours))
    after = everything_stored()
    gone = [world.production, world.acme.tenant, world.globex.tenant, world.acme.people["admin"]]
    assert [naming(after, row) == set() for row in gone] == [not kept] * len(gone)
    staging = [world.staging, world.acme_staging.tenant, world.acme_staging.people["admin"]]
    assert [naming(after, row) for row in staging] == [naming(before, row) for row in staging]
    assert AuditEvent.objects.filter(verb="environment.erased").count() == (0 if kept else 1)
    assert AuditEvent.objects.filter(verb="tenant.erased").count() == (0 if kept else 2)
    assert erasure.erase_due(at=at + timedelta(hours=hours)) == 0


def test_an_environment_loses_its_keys_before_the_types_by_which_they_are_kept(world, monkeypatch):
    erased, real = [], erasure._delete
    monkeypatch.setattr(erasure, "_delete", lambda batch: erased.append(type(batch[0])) or real(batch))
    at = timezone.now()
    Environment.objects.filter(pk=world.production.pk).update(deleted_at=at)
    erasure.erase_due(at=at + timedelta(hours=72))
    assert erased.index(SigningKey) < erased.index(TokenType)


def test_it_erases_in_batches_however_much_there_is(world, monkeypatch):
    populate(world)
    at = timezone.now()
    for number in range(7):
        world.acme.issue("admin", name=f"Token {number}")
    Tenant.objects.filter(pk=world.acme.tenant.pk).update(deleted_at=at)
    monkeypatch.setattr(erasure, "BATCH", 2)
    erasure.erase_due(at=at + timedelta(days=30))
    assert naming(everything_stored(), world.acme.tenant) == set()
    assert AuditEvent.objects.filter(verb="apitoken.deleted").count() == 9


def _together(*acts):
    errors = []

    def run(act):
        try:
            act()
        except Exception as error:  # noqa: BLE001 -- asserted on below, in the test's own thread
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=[act], daemon=True) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_two_workers_at_once_erase_everything_once(world, monkeypatch):
    populate(world)
    at = timezone.now()
    for number in range(20):
        world.acme.issue("admin", name=f"Token {number}")
    Environment.objects.filter(pk=world.production.pk).update(deleted_at=at)
    monkeypatch.setattr(erasure, "BATCH", 3)
    due = at + timedelta(hours=72)
    _together(*[lambda: erasure.erase_due(at=due)] * 3)
    erasure.erase_due(at=due)
    assert naming(everything_stored(), world.production) == set()
    targets = list(AuditEvent.objects.filter(verb="apitoken.deleted").values_list("target_id", flat=True))
    assert len(targets) == len(set(targets)) == 23
    assert AuditEvent.objects.filter(verb="environment.erased").count() == 1


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_what_another_worker_holds_is_left_to_it(world):
    """Without waiting: a token that is being deleted by somebody, a tenant that another worker is at."""
    acme, at = world.acme, timezone.now()
    tokens = [acme.issue("member", owner="user", name=name).token for name in ("Held", "Free")]
    Membership.objects.filter(pk=acme.people["member"].pk).update(ended_at=at)
    Tenant.objects.filter(pk=world.globex.tenant.pk).update(deleted_at=at)
    with transaction.atomic():
        ApiToken.objects.select_for_update(of=("self",)).get(pk=tokens[0].pk)
        Tenant.objects.select_for_update(of=("self",)).get(pk=world.globex.tenant.pk)
        _together(lambda: erasure.erase_due(at=at + timedelta(days=31)))
        left = ApiToken.objects.filter(pk__in=[token.pk for token in tokens])
        assert [token.name for token in left] == ["Held"]
        assert Membership.objects.filter(tenant=world.globex.tenant).count() == 4
    erasure.erase_due(at=at + timedelta(days=31))
    assert not ApiToken.objects.filter(pk=tokens[0].pk).exists()
    assert not Tenant.objects.filter(pk=world.globex.tenant.pk).exists()


def test_the_system_is_who_erased(world):
    """`SYSTEM` has no id and no name: nothing of an operator gets into the record."""
    at = timezone.now()
    Tenant.objects.filter(pk=world.globex.tenant.pk).update(deleted_at=at)
    erasure.erase_due(at=at + timedelta(days=30))
    event = AuditEvent.objects.get(verb="tenant.erased")
    assert (event.actor_kind, event.actor_id, event.environment_id) == (SYSTEM.kind, None, world.production.pk)
    assert event.before == {"name": "Globex", "slug": world.globex.tenant.slug}
