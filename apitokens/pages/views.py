from itertools import groupby

from django.contrib.auth.decorators import login_required
from django.db.models import Q
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apitokens import access
from apitokens.access import PortalRequest
from apitokens.pages.places import PageRequest
from apitokens.principals import MemberPrincipal
from tenants.models import Membership

CLOSED_SHOWN = 50


@never_cache
@login_required
@require_safe
def home(request: PortalRequest) -> HttpResponse:
    """Straight there for who has one tenant or one environment; a choice for who has several."""
    memberships = list(access.memberships_of(request.user)[:200])
    environments = list(
        access.environments_of(request.user).select_related("vendor").order_by("vendor__name", "name", "slug")[:200]
    )
    if len(memberships) == 1 and not environments:
        return redirect("portal:tokens", memberships[0].tenant.slug)
    if len(environments) == 1 and not memberships:
        return redirect("console:overview", environments[0].slug)
    vendors = [
        {"name": name, "environments": list(rows)} for name, rows in groupby(environments, lambda row: row.vendor.name)
    ]
    elsewhere = access.shut_out(request.user).select_related("tenant", "environment").order_by("tenant__name", "id")
    context = {
        "memberships": memberships,
        "vendors": vendors,
        "elsewhere": list(elsewhere[:CLOSED_SHOWN]),
        "closed": _closed_to(request),
    }
    return render(request, "portal/home.html", context)


@require_safe
def tenant(request: PageRequest, principal: MemberPrincipal) -> HttpResponse:
    return redirect(request.place.url("tokens"))


def _closed_to(request: PortalRequest) -> list[Membership]:
    """Where the person belongs and gets in no more until somebody reinstates them or the whole tenant."""
    mine = Membership.objects.filter(user=request.user, ended_at__isnull=True)
    kept = mine.filter(tenant__deleted_at__isnull=True, environment__deleted_at__isnull=True)
    stopped = kept.filter(
        Q(suspended_at__isnull=False)
        | Q(tenant__suspended_at__isnull=False)
        | Q(environment__suspended_at__isnull=False)
    )
    return list(stopped.select_related("tenant", "environment").order_by("tenant__name", "id")[:CLOSED_SHOWN])
