"""A person's own tokens, wherever they have some: in tenants and in the vendor's environments."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.db.models import Q
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.models import User
from accounts.visits import user_actor
from apitokens import access
from apitokens.access import PortalRequest
from apitokens.models import ApiToken, Owner
from apitokens.pages.paging import page_of
from apitokens.pages.places import PagePrincipal, Place
from apitokens.pages.rows import TokenRow
from apitokens.paging import TokenPages
from apitokens.principals import ConsolePrincipal, MemberPrincipal
from apitokens.querysets import ApiTokenQuerySet
from tenants.models import Membership, VendorMembership

# More places than anybody has.
MOST_PLACES = 500


@dataclass(frozen=True)
class OwnToken:
    """`url` is empty where the person can't go at the moment."""

    row: TokenRow
    place: str
    url: str


@never_cache
@login_required
@require_safe
def my_tokens(request: PortalRequest) -> HttpResponse:
    at, pages = timezone.now(), TokenPages()
    found = own_tokens(request.user).with_standing().with_last_four().select_related("creator", "environment__vendor")
    page = page_of(pages, found, request)
    memberships = access.memberships_of(request.user).filter(pk__in=[token.membership_id for token in page])
    environments = access.environments_of(request.user).filter(pk__in=[token.environment_id for token in page])
    open_to = {*memberships.values_list("pk", flat=True), *environments.values_list("pk", flat=True)}
    context = {
        "tokens": [_own(token, request, at, open_to) for token in page],
        "next_url": pages.get_next_link(),
        "previous_url": pages.get_previous_link(),
    }
    return render(request, "portal/my_tokens.html", context)


def own_tokens(user: User) -> ApiTokenQuerySet:
    """Not those of places that they have left: they have stopped, and wait to be erased."""
    # Ids, not subqueries: each side of the OR is then found by its index.
    mine = Membership.objects.filter(user=user, ended_at__isnull=True).order_by("pk")
    vendors = VendorMembership.objects.filter(user=user, ended_at__isnull=True).order_by("pk")
    return ApiToken.objects.filter(
        Q(membership__in=list(mine.values_list("pk", flat=True)[:MOST_PLACES]))
        | Q(vendor_membership__in=list(vendors.values_list("pk", flat=True)[:MOST_PLACES])),
        owner=Owner.USER,
    )


def _own(token: ApiToken, request: PortalRequest, at: datetime, open_to: set[UUID]) -> OwnToken:
    principal, place, where = _place_of(token, request)
    row = TokenRow(token, principal, at, place)
    is_open = token.membership_id in open_to if token.tenant_id else token.environment_id in open_to
    return OwnToken(row=row, place=where, url=row.url if is_open else "")


def _place_of(token: ApiToken, request: PortalRequest) -> tuple[PagePrincipal, Place, str]:
    """Without permissions, which would have to be asked for anew in each place: here nothing is done with a token."""
    asks: dict[str, Any] = {
        "actor": user_actor(request.user, request),
        "environment": token.environment,
        "permissions": frozenset(),
    }
    if token.membership is not None and token.tenant is not None:
        member = MemberPrincipal(tenant=token.tenant, membership=token.membership, **asks)
        return member, Place("portal", token.tenant.slug), token.tenant.name
    if token.vendor_membership is None:
        raise TypeError("a personal token has an owner")
    person = ConsolePrincipal(tenant=None, vendor_membership=token.vendor_membership, **asks)
    return person, Place("console", token.environment.slug), token.environment.vendor.name
