"""A minimal valid row of each model that tests need beside the cast; no rule lives here.

Tokens are not made here but by the service or over HTTP, so that every test has what users get.
"""

from uuid import uuid4

import factory
from django.db import connection
from django.utils import timezone

from accounts.models import User
from apitokens.setup import create_environment, create_tenant
from audit.actors import SYSTEM
from tenants.models import Environment, Membership, Permission, Role, Tenant, Vendor, VendorMembership


class VendorFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Vendor

    name = factory.Sequence(lambda n: f"Vendor {n}")
    slug = factory.Sequence(lambda n: f"vendor-{n}")


class EnvironmentFactory(factory.django.DjangoModelFactory):
    """With all it is born with: built-in permissions, roles, six token types, an audience, a key."""

    class Meta:
        model = Environment

    vendor = factory.SubFactory(VendorFactory)
    name = factory.Sequence(lambda n: f"Environment {n}")
    slug = factory.Sequence(lambda n: f"environment-{n}")
    token_prefix = factory.Sequence(lambda n: f"env{n}")

    @classmethod
    def _create(cls, model_class, **fields):
        audience = f"https://api.{fields['slug']}.example"
        return create_environment(actor=SYSTEM, audience=audience, at=timezone.now(), **fields)


class TenantFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Tenant

    environment = factory.SubFactory(EnvironmentFactory)
    name = factory.Sequence(lambda n: f"Tenant {n}")
    slug = factory.Sequence(lambda n: f"tenant-{n}")
    external_id = factory.Sequence(lambda n: f"customer-{n}")

    @classmethod
    def _create(cls, model_class, **fields):
        return create_tenant(actor=SYSTEM, **fields)


class UserFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = User

    email = factory.Sequence(lambda n: f"user-{n}@example.com")
    name = factory.Sequence(lambda n: f"User {n}")
    password = "!"  # nobody signs in with it; tests that do sign in set one


class PermissionFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Permission

    environment = factory.SubFactory(EnvironmentFactory)
    key = factory.Sequence(lambda n: f"things:{n}")


class RoleFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Role

    environment = factory.SubFactory(EnvironmentFactory)
    key = factory.Sequence(lambda n: f"role-{n}")
    name = factory.Sequence(lambda n: f"Role {n}")
    level = 10


class MembershipFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Membership

    user = factory.SubFactory(UserFactory)
    tenant = factory.SubFactory(TenantFactory)
    environment = factory.SelfAttribute("tenant.environment")


class VendorMembershipFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = VendorMembership

    user = factory.SubFactory(UserFactory)
    vendor = factory.SubFactory(VendorFactory)
    role = VendorMembership.Role.OWNER


def insert_copy(row, changes):
    """Insert the row's columns again, some of them changed; answers the new row's primary key."""
    model = row._meta.model
    columns = {field.column: field for field in model._meta.local_concrete_fields if not field.generated}
    values = dict(zip(columns, _raw(row, list(columns)), strict=True)) | prepared(model, changes)
    key = model._meta.pk
    if key.get_internal_type() == "UUIDField":
        values[key.column] = key.get_db_prep_value(uuid4(), connection)
    elif key.remote_field is None:
        del values[key.column]
    names = ", ".join(connection.ops.quote_name(column) for column in values)
    marks = ", ".join(["%s"] * len(values))
    sql = f"INSERT INTO {model._meta.db_table} ({names}) VALUES ({marks}) RETURNING {key.column}"  # noqa: S608 -- ours
    with connection.cursor() as cursor:
        cursor.execute(sql, list(values.values()))
        return cursor.fetchone()[0]


def prepared(model, changes):
    fields = {name: model._meta.get_field(name) for name in changes}
    return {field.column: field.get_db_prep_save(changes[name], connection) for name, field in fields.items()}


def _raw(row, columns):
    names = ", ".join(connection.ops.quote_name(column) for column in columns)
    key = row._meta.pk
    sql = f"SELECT {names} FROM {row._meta.db_table} WHERE {key.column} = %s"  # noqa: S608 -- ours
    with connection.cursor() as cursor:
        cursor.execute(sql, [key.get_db_prep_value(row.pk, connection)])
        return cursor.fetchone()
