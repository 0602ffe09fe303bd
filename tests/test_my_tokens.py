"""A person's own personal tokens, wherever they have some, and nobody else's."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apitokens import principals, services
from apitokens.models import Owner, TokenType
from apitokens.orders import Expiry, Grant, Order
from apitokens.setup import give_role
from audit.actors import Actor
from audit.models import ActorKind
from tenants.queries import grantor_of_membership
from tests.cast import signed_in
from tests.factories import MembershipFactory, VendorMembershipFactory

URL = "/account/tokens/"


@pytest.fixture
def ada(world):
    """Of Acme, of Globex, of Acme's staging twin, and of the vendor; with a personal token in each."""
    user = world.acme.people["admin"].user
    for house in (world.globex, world.acme_staging):
        house.people["ada"] = MembershipFactory(tenant=house.tenant, user=user)
    world.acme.people["ada"] = world.acme.people["admin"]
    TokenType.objects.update(is_enabled=True)
    for house in (world.acme, world.globex, world.acme_staging):
        _personal(house, "ada", f"Of {house.tenant.slug}")
    world.vendor_member = VendorMembershipFactory(vendor=world.vendor, user=user, role="admin")
    _of_vendor(world, world.vendor_member, "Of the vendor")
    return user


def _personal(house, role, name):
    membership = house.people[role]
    by = principals.Principal(
        actor=Actor(kind=ActorKind.USER, id=membership.user_id, label="x"),
        environment=house.environment,
        tenant=house.tenant,
        membership=membership,
        proven_at=timezone.now(),
        permissions=grantor_of_membership(membership).permissions,
    )
    if not membership.roles.exists():
        give_role(membership, house.role("member"))
    order = Order(
        owner=Owner.USER, kind="access_token", name=name, membership=membership, grant=Grant(), expiry=Expiry()
    )
    return services.issue(by=by, tenant=house.tenant, order=order, at=timezone.now()).token


def _of_vendor(world, member, name):
    """As an import would write it."""
    token = world.acme.issue_for_environment(name=name).token
    token_type = TokenType.objects.get(environment=world.production, owner="user", kind="access_token")
    type(token).objects.filter(pk=token.pk).update(
        owner="user", vendor=world.vendor, vendor_membership=member, token_type=token_type
    )
    token.refresh_from_db()
    return token


def test_one_sees_ones_own_of_every_place_and_nobody_elses(world, ada):
    _personal(world.acme, "member", "Of another")
    world.acme.issue("admin", name="Of the tenant")
    page = signed_in(ada).get(URL).content.decode()
    assert page.count("data-token-id") == 4
    for house in (world.acme, world.globex, world.acme_staging):
        assert f"Of {house.tenant.slug}" in page
        assert f'href="/t/{house.tenant.slug}/tokens/' in page
    assert f'href="/console/{world.production.slug}/tokens/' in page
    assert "Of another" not in page
    assert "Of the tenant" not in page
    assert "data-token-id" not in world.globex.browser("owner").get(URL).content.decode()


def test_where_one_cannot_go_there_is_no_link_and_where_one_has_left_no_token(world, ada):
    world.globex.people["ada"].__class__.objects.filter(pk=world.globex.people["ada"].pk).update(
        suspended_at=timezone.now()
    )
    world.acme_staging.people["ada"].__class__.objects.filter(pk=world.acme_staging.people["ada"].pk).update(
        ended_at=timezone.now() - timedelta(days=1)
    )
    page = signed_in(ada).get(URL).content.decode()
    assert f"Of {world.globex.tenant.slug}" in page
    assert f'href="/t/{world.globex.tenant.slug}/tokens/' not in page
    assert f"Of {world.acme_staging.tenant.slug}" not in page
    assert page.count("data-token-id") == 3


def test_many_take_as_many_queries_as_few_and_come_in_pages(world, ada):
    browser = signed_in(ada)
    counts = []
    for more in (0, 60):
        for number in range(more):
            _personal(world.acme, "ada", f"Number {number}")
        with CaptureQueriesContext(connection) as captured:
            page = browser.get(URL).content.decode()
        counts.append(len(captured))
    assert counts[0] == counts[1]
    assert page.count("data-token-id") == 50
    assert 'rel="next"' in page


def test_who_has_none_is_told_what_they_are_for(world):
    page = world.acme.browser("viewer").get(URL).content.decode()
    assert "No personal tokens yet" in page


def test_it_is_for_who_is_signed_in(client, db):
    assert client.get(URL).headers["Location"] == f"/accounts/login/?next={URL}"
