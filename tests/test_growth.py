"""A list costs the same however much there is: as many queries for 10,000 tokens and 1,000 members as for a handful."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from apitokens import gathering
from apitokens.models import ApiToken, ApiTokenRole, Secret, UsageHour
from audit.models import AuditEvent
from tenants.models import Membership, MembershipRole
from tests.cast import bearer

TOKENS, MEMBERS, EVENTS = 10_000, 1_000, 5_000
BATCH = 1_000
CONSOLE = ("", "tenants/", "all-tokens/", "tokens/", "roles/", "token-types/", "usage/", "audit/", "people/")


def grow(house):
    """Copies of one token and of one member that the services made: rows as they would be, at once."""
    like, member = house.issue("admin", roles=["member", "viewer"]).token, house.people["member"]
    began, scope_id = timezone.now() - timedelta(days=1), house.tenant.id
    copied = [field.attname for field in ApiToken._meta.concrete_fields if not field.generated]
    different = {"id", "token_id", "client_id", "name", "name_key", "created_at"}
    same = {name: getattr(like, name) for name in copied if name not in different}
    tokens = [
        ApiToken(
            **same,
            token_id=f"grown{n:07}",
            client_id=f"grown-{n}",
            name=f"Token {n}",
            name_key=f"token {n}",
            created_at=began + timedelta(seconds=n),
        )
        for n in range(TOKENS)
    ]
    ApiToken.objects.bulk_create(tokens, batch_size=BATCH)
    agrees = {"environment_id": like.environment_id, "kind": like.kind, "scope_id": scope_id}
    held = list(like.token_roles.values("role_id", "role_scope_id"))
    ApiTokenRole.objects.bulk_create(
        (ApiTokenRole(token=token, **agrees, **row) for token in tokens for row in held), batch_size=BATCH
    )
    Secret.objects.bulk_create(
        (Secret(token=token, **agrees, slot=1, digest=b"\0" * 32, pepper_id=1, last_four="0000") for token in tokens),
        batch_size=BATCH,
    )
    people = [User(email=f"grown-{n}@example.com", name=f"Person {n}", password="!") for n in range(MEMBERS)]
    User.objects.bulk_create(people, batch_size=BATCH)
    members = [
        Membership(user=user, tenant=house.tenant, environment=house.environment, created_at=began) for user in people
    ]
    Membership.objects.bulk_create(members, batch_size=BATCH)
    row = MembershipRole.objects.get(membership=member)
    MembershipRole.objects.bulk_create(
        (
            MembershipRole(
                membership=grown,
                role_id=row.role_id,
                tenant=house.tenant,
                environment=house.environment,
                role_scope_id=row.role_scope_id,
            )
            for grown in members
        ),
        batch_size=BATCH,
    )
    AuditEvent.objects.bulk_create(
        (
            AuditEvent(
                at=began + timedelta(seconds=n),
                environment_id=house.environment.id,
                tenant_id=house.tenant.id,
                actor_kind="user",
                actor_id=member.user_id,
                verb="apitoken.issued",
                target_kind="apitoken",
                target_id=tokens[n].id,
                after={"name": f"Token {n}"},
            )
            for n in range(EVENTS)
        ),
        batch_size=BATCH,
    )
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    UsageHour.objects.bulk_create(
        (
            UsageHour(
                environment=house.environment, scope_id=scope_id, token_id=token.id, hour=hour, outcome=outcome, count=9
            )
            for token in tokens
            for outcome in ("granted", "accepted")
        ),
        batch_size=BATCH,
    )


@pytest.fixture
def lists(world, machine):
    """Every list of the product, by address, with whoever may see it."""
    acme, office = world.acme, world.office
    admin, owner = acme.browser("admin"), office.browser("owner")
    backend = bearer(acme.issue_for_environment(name="Backend", kind="access_token").plaintext)
    tenant, environment = acme.tenant, acme.environment
    pages = {
        **{f"/t/{tenant.slug}/{page}": admin for page in ("tokens/", "members/", "roles/", "usage/", "audit/")},
        **{f"/console/{environment.slug}/{page}": owner for page in CONSOLE},
    }
    in_tenant = ("tokens", "members", "invitations", "roles", "events", "usage")
    calls = [f"/api/v1/{path}?tenant={tenant.id}" for path in in_tenant]
    calls += [
        f"/api/v1/{path}" for path in ("tenants", "permissions", "token-types", "events", "usage", "portal-sessions")
    ]
    return [
        *(
            (address, lambda address=address, browser=browser: browser.get(address))
            for address, browser in pages.items()
        ),
        *((address, lambda address=address: machine.get(address, headers=backend)) for address in calls),
    ]


def counted(lists):
    counts = {}
    for address, fetch in lists:
        fetch()  # the first visit of a session writes it
        with CaptureQueriesContext(
            connection,
        ) as captured:
            answer = fetch()
        assert answer.status_code == 200, (address, answer.content[:300])
        counts[address] = len(captured)
    return counts


@pytest.mark.once
def test_every_list_takes_as_many_queries_for_ten_thousand_rows_as_for_a_handful(world, machine, lists):
    for n in range(4):
        issued = world.acme.issue("admin", name=f"Few {n}", roles=["member", "viewer"])
        machine.get("/api/v1/token/self", headers=bearer(issued.plaintext))
    gathering.flush(at=timezone.now())
    few = counted(lists)
    grow(world.acme)
    assert counted(lists) == few
    assert max(few.values()) <= 20, few
