from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apitokens import access
from apitokens.access import PortalRequest
from apitokens.pages.paging import page_of
from apitokens.pages.rows import event_rows
from apitokens.paging import EventPages
from apitokens.principals import MemberPrincipal
from audit.models import AuditEvent


@never_cache
@login_required
@require_safe
def home(request: PortalRequest) -> HttpResponse:
    """Straight to the tenant of who has one; a choice for who has several."""
    memberships = list(access.memberships_of(request.user)[:200])
    if len(memberships) == 1:
        return redirect("portal:tokens", memberships[0].tenant.slug)
    vendor_memberships = request.user.vendor_memberships.select_related("vendor").filter(ended_at__isnull=True)
    context = {"memberships": memberships, "vendor_memberships": list(vendor_memberships[:50])}
    return render(request, "portal/home.html", context)


@require_safe
def audit(request: PortalRequest, principal: MemberPrincipal) -> HttpResponse:
    pages = EventPages()
    page = page_of(pages, AuditEvent.objects.filter(tenant_id=principal.tenant.id), request)
    context = {
        "events": event_rows(page),
        "next_url": pages.get_next_link(),
        "previous_url": pages.get_previous_link(),
    }
    return render(request, "portal/audit.html", context)
