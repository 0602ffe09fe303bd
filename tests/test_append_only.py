"""What never changes, whoever asks the database: slugs, which stand in addresses that people keep, and the record."""

from contextlib import nullcontext
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, transaction

from accounts.models import User
from audit.models import AuditEvent
from tenants.models import Environment, TakenSlug, Tenant
from tests.factories import EnvironmentFactory, TenantFactory, UserFactory, VendorFactory

SLUGGED = [
    pytest.param(Environment, EnvironmentFactory, id="environment"),
    pytest.param(Tenant, TenantFactory, id="tenant"),
]


def _refused(sql, *params, because):
    with pytest.raises(IntegrityError, match=because), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, params)


@pytest.mark.parametrize(("model", "factory"), SLUGGED)
def test_a_slug_never_changes(db, model, factory):
    row = factory()
    kind = model._meta.model_name
    key = model._meta.pk.get_db_prep_value(row.pk, connection)
    table = model._meta.db_table
    _refused(f"UPDATE {table} SET slug = 'other' WHERE id = %s", key, because=f"{kind}_slug_immutable")  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET slug = slug, name = 'Renamed' WHERE id = %s", [key])  # noqa: S608
    row.refresh_from_db()
    assert (row.name, model.objects.filter(slug="other").exists()) == ("Renamed", False)


def test_a_tenants_slug_is_not_given_to_another_after_its_deletion(db):
    gone = TenantFactory(slug="kept")
    Tenant.objects.filter(pk=gone.pk).delete()
    with pytest.raises(IntegrityError), transaction.atomic():
        TenantFactory(environment=gone.environment, slug="kept")
    assert TenantFactory(environment=gone.environment, slug="kept-2").slug == "kept-2"
    assert TakenSlug.objects.filter(kind="tenant", slug="kept").count() == 1


def test_an_environments_slug_is_not_given_to_another_after_its_deletion(db):
    gone = EnvironmentFactory(slug="kept")
    Environment.objects.filter(pk=gone.pk).delete()
    with pytest.raises(IntegrityError), transaction.atomic():
        EnvironmentFactory(vendor=gone.vendor, slug="kept")
    assert EnvironmentFactory(vendor=gone.vendor, slug="kept-2").slug == "kept-2"


@pytest.mark.parametrize(("model", "factory"), SLUGGED)
def test_a_slug_is_unique_across_vendors(db, model, factory):
    there = factory(slug="taken")
    elsewhere = EnvironmentFactory(vendor=VendorFactory()) if model is Tenant else None
    fields = {"environment": elsewhere} if elsewhere else {"vendor": VendorFactory()}
    with pytest.raises(IntegrityError), transaction.atomic():
        factory(slug="taken", **fields)
    assert list(model.objects.filter(slug="taken")) == [there]
    assert factory(slug="free", **fields).slug == "free"


def test_a_tenant_may_have_the_slug_of_an_environment(db):
    environment = EnvironmentFactory(slug="same")
    assert TenantFactory(environment=environment, slug="same").slug == environment.slug


@pytest.mark.parametrize("sql", ["DELETE FROM tenants_takenslug", "UPDATE tenants_takenslug SET slug = 'x'"])
def test_a_claim_on_a_slug_is_never_released(acme, sql):
    before = TakenSlug.objects.count()
    _refused(sql, because="takenslug_never_released")
    assert TakenSlug.objects.count() == before > 0


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit_auditevent SET verb = 'nothing'",
        "UPDATE audit_auditevent SET ip = NULL",
        "DELETE FROM audit_auditevent",
    ],
)
def test_the_record_can_only_grow(acme, sql):
    acme.issue("admin")
    before = list(AuditEvent.objects.order_by("id").values())
    _refused(sql, because="auditevent_append_only")
    assert list(AuditEvent.objects.order_by("id").values()) == before != []


def test_an_event_outlives_the_token_it_describes(acme):
    token = acme.issue("admin").token
    answer = acme.api("admin", "DELETE", f"tokens/{token.token_id}")
    assert answer.status_code == 204
    verbs = AuditEvent.objects.filter(target_id=token.id).order_by("at").values_list("verb", flat=True)
    assert list(verbs) == ["apitoken.issued", "apitoken.deleted"]


def test_an_e_mail_is_unique_among_local_people_only(db):
    local = UserFactory(email="Ann@Example.com")
    with pytest.raises(IntegrityError), transaction.atomic():
        UserFactory(email="ann@example.com")
    vouched = [User.objects.create(email="ann@example.com", voucher_id=uuid4(), voucher_user_id="7") for _ in range(2)]
    assert User.objects.filter(email__iexact="ann@example.com").count() == 3
    assert User.objects.get_by_natural_key("ANN@example.com") == local
    assert len({user.pk for user in vouched}) == 2


def test_only_a_vouched_person_may_be_without_an_e_mail(db):
    with pytest.raises(IntegrityError), transaction.atomic():
        UserFactory(email=None)
    assert User.objects.create(email=None, voucher_id=uuid4(), voucher_user_id="7").email is None


@pytest.mark.parametrize(
    ("external_id", "accepted"),
    [
        ("customer-0042", True),
        ("01890a5d-ac96-774b-bcce", True),
        ("01890a5d-ac96-774b-bcce-b302099a8057", False),
        ("01890a5dac96774bbcceb302099a8057", False),
    ],
)
def test_the_vendors_own_id_of_a_tenant_is_never_of_the_form_of_ours(db, external_id, accepted):
    environment = EnvironmentFactory()
    refused = pytest.raises(IntegrityError, match="tenant_external_id_not_like_ours")
    with nullcontext() if accepted else refused, transaction.atomic():
        TenantFactory(environment=environment, external_id=external_id)
    assert Tenant.objects.filter(external_id=external_id).exists() == accepted
