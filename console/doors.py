"""The door of every page of the console: signed in, of the vendor, in an environment that they cover.

A person who works in two environments has a tab of each. What they send from a page of one, after they went on to the
other, is perhaps meant for that other: it is refused, and nothing is done in either.
"""

from collections.abc import Callable
from functools import wraps

from django.contrib.auth.decorators import login_required
from django.http import HttpResponseBase
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache

from apitokens import access
from apitokens.pages.confirming import confirmed
from apitokens.pages.places import PageRequest, Place
from audit.services import Refusal
from console.navigation import CONSOLE_TABS
from tenants.models import Environment

View = Callable[..., HttpResponseBase]
VISITED = "console_environment"


class Switched(Refusal):
    """The form was rendered in another environment than the person is in now."""

    code = "environment_switched"
    is_denial = False

    def __init__(self, rendered_for: Environment) -> None:
        super().__init__(
            _(
                "This form was for the environment %(name)s, and you have gone on to another since. Open the page in "
                "%(name)s again if that is where you meant to do this."
            )
            % {"name": rendered_for.name}
        )


def console_page(permission: str) -> Callable[[View], View]:
    """The view gets the request, the principal and what its address names. Strangers get 404, people of the vendor
    without the permission a 403 that names it, a form of another environment 409."""

    def decorate(view: View) -> View:
        @never_cache
        @login_required
        @wraps(view)
        def open_door(request: PageRequest, slug: str, **named: str) -> HttpResponseBase:
            principal = access.open_environment(request, slug)
            request.principal = principal
            request.place = Place("console", slug)
            request.tabs_to = CONSOLE_TABS
            access.require(principal, permission)
            if request.method not in {"GET", "HEAD"}:
                if request.POST.get("environment") != slug or request.session.get(VISITED) != slug:
                    raise Switched(principal.environment)
            elif request.session.get(VISITED) != slug:
                request.session[VISITED] = slug
            return confirmed(view, request, principal, **named)

        return open_door

    return decorate
