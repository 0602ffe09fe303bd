"""Portal sessions opened at once, with real transactions: one person, one membership, one who gets in."""

from threading import Barrier

import pytest
from django.test import Client

from accounts.models import User
from apitokens.models import PortalSession
from tenants.models import Membership
from tests.racing import Call, held, wait_for_blocked
from tests.test_portal_sessions import GRACE, Product, grace, is_closed

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]


def test_two_calls_at_once_for_somebody_new_make_one_person_and_one_member(world, acme):
    product = Product(acme)
    with held(acme.tenant):
        calls = [Call(product.asks) for _ in range(2)]
        wait_for_blocked(2)
    assert [call.result().status_code for call in calls] == [201, 201]
    assert User.objects.filter(voucher_user_id=GRACE["id"]).count() == 1
    assert grace().memberships.count() == 1
    assert PortalSession.objects.count() == 2


def test_two_calls_at_once_in_two_tenants_make_one_person_with_two_memberships(world, acme):
    """Nothing but the person is common to them: neither waits for the other's tenant."""
    product, begin = Product(acme), Barrier(4)

    def asks(tenant):
        begin.wait(10)
        return product.asks(tenant=str(tenant.id), user={"id": "linus"})

    tenants = [acme.tenant, world.globex.tenant] * 2
    answers = [call.result() for call in [Call(lambda tenant=tenant: asks(tenant)) for tenant in tenants]]
    assert [answer.status_code for answer in answers] == [201] * 4, [answer.content for answer in answers]
    linus = User.objects.get(voucher_user_id="linus")
    assert Membership.objects.filter(user=linus).count() == 2


def test_of_two_who_open_a_link_at_once_one_gets_in(world, acme):
    link = Product(acme).link()
    with held(PortalSession.objects.get()):
        calls = [Call(lambda: Client().get(link)) for _ in range(2)]
        wait_for_blocked(2)
    answers = [call.result() for call in calls]
    assert sorted(answer.status_code for answer in answers) == [303, 403]
    assert sum(is_closed(answer) for answer in answers) == 1


def test_roles_that_are_given_wait_for_a_suspension_that_came_first(world, acme):
    product = Product(acme)
    product.link()
    member = grace().memberships.get()
    with held(member):
        call = Call(product.asks)
        wait_for_blocked(1)
        Membership.objects.filter(pk=member.pk).update(suspended_at=member.created_at)
    refused = call.result()
    assert (refused.status_code, refused.json()["code"]) == (403, "member_suspended")
