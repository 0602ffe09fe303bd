"""The door of every page of a tenant: signed in, a member, and nothing of it kept by a cache on the way."""

from collections.abc import Callable
from functools import wraps

from django.contrib.auth.decorators import login_required
from django.http import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache

from apitokens import access
from apitokens.access import open_tenant
from apitokens.pages.confirming import confirmed
from apitokens.pages.navigation import PORTAL_TABS
from apitokens.pages.places import PageRequest, Place

View = Callable[..., HttpResponseBase]


def tenant_page(permission: str | None) -> Callable[[View], View]:
    """The view gets the request, the principal and what its address names. Strangers get 404, members without the
    permission a 403 that names it; with None any member is let in."""

    def decorate(view: View) -> View:
        @never_cache
        @login_required
        @wraps(view)
        def open_door(request: PageRequest, slug: str, **named: str) -> HttpResponseBase:
            try:
                principal = open_tenant(request, slug)
            except access.SignInElsewhere:
                return redirect(f"{reverse('portal:sign-in', args=[slug])}?{urlencode({'next': request.path})}")
            request.principal = principal
            request.place = Place("portal", slug)
            request.branded = principal.environment
            request.tabs_to = PORTAL_TABS
            if permission is not None:
                access.require(principal, permission)
            return confirmed(view, request, principal, **named)

        return open_door

    return decorate
