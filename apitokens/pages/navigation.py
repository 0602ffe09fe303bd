"""What the frame around every page shows: who is signed in, where, and what is there to open."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _

from apitokens.access import memberships_of
from apitokens.principals import MemberPrincipal
from tenants.models import Membership

if TYPE_CHECKING:
    from accounts.models import User


@dataclass(frozen=True)
class Tab:
    label: str
    url: str
    icon: str
    is_current: bool


@dataclass
class Navigation:
    user: User
    path: str
    principal: MemberPrincipal | None

    @property
    def user_label(self) -> str:
        return str(self.user)

    @cached_property
    def tenants(self) -> list[Membership]:
        return list(memberships_of(self.user)[:50])

    @property
    def current(self) -> Membership | None:
        return self.principal.membership if self.principal else None

    @property
    def environment(self) -> str:
        return self.principal.environment.name if self.principal else ""

    @cached_property
    def tabs(self) -> list[Tab]:
        """Tabs that would answer 403 are absent."""
        if self.principal is None:
            return []
        slug = self.principal.tenant.slug
        tabs = [
            ("apitokens:read", _("Tokens"), reverse("portal:tokens", args=[slug]), "key-round"),
            ("audit:read", _("Audit"), reverse("portal:audit", args=[slug]), "scroll-text"),
        ]
        return [
            Tab(label=label, url=url, icon=icon, is_current=self.path.startswith(url))
            for permission, label, url, icon in tabs
            if self.principal.holds(permission)
        ]


def navigation(request: HttpRequest) -> dict[str, Navigation | None]:
    """A context processor; asks the database only when a template asks it."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {"nav": None}
    return {"nav": Navigation(user=user, path=request.path, principal=getattr(request, "principal", None))}
