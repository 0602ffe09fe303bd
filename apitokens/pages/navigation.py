"""What the frame around every page shows: who is signed in, where, and what is there to open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from apitokens.access import environments_of, memberships_of
from apitokens.models import PortalSession
from apitokens.pages.places import PagePrincipal, Place
from apitokens.principals import ConsolePrincipal
from tenants.models import Environment, Membership, VendorMembership

if TYPE_CHECKING:
    from accounts.models import User


@dataclass(frozen=True)
class Tab:
    label: str
    url: str
    icon: str
    is_current: bool


@dataclass(frozen=True)
class TabTo:
    """`name` is an address's name within the place; without `permission` the tab would answer 403, and is absent."""

    permission: str
    label: str | Promise
    name: str
    icon: str


PORTAL_TABS = (
    TabTo("apitokens:read", gettext_lazy("Tokens"), "tokens", "key-round"),
    TabTo("members:read", gettext_lazy("Members"), "members", "users"),
    TabTo("roles:read", gettext_lazy("Roles"), "roles", "users-round"),
    TabTo("sso:read", gettext_lazy("Single sign-on"), "sso", "log-in"),
    TabTo("usage:read", gettext_lazy("Usage"), "usage", "chart-column"),
    TabTo("audit:read", gettext_lazy("Audit"), "audit", "scroll-text"),
)
# A person's own pages, which are in no tenant.
PERSONAL_TABS = (
    (gettext_lazy("Your profile"), "account", "circle-user-round"),
    (gettext_lazy("My tokens"), "portal:my-tokens", "key-round"),
    (gettext_lazy("Security"), "mfa_index", "shield-check"),
    (gettext_lazy("Sessions"), "usersessions_list", "monitor"),
)
# Not for an identity vouched for elsewhere, which signs in there.
LOCAL_TABS = frozenset({"mfa_index"})


@dataclass
class Navigation:
    user: User
    path: str
    principal: PagePrincipal | None
    place: Place | None
    tabs_to: Sequence[TabTo]
    # Of an embedded page: it shows one tenant, some of its sections, and nothing of the person's own.
    portal_session: PortalSession | None

    @property
    def user_label(self) -> str:
        return str(self.user)

    @cached_property
    def tenants(self) -> list[Membership]:
        found = memberships_of(self.user)
        return list(found.filter(pk=self.portal_session.membership_id) if self.portal_session else found[:50])

    @cached_property
    def environments(self) -> list[Environment]:
        """Those whose console the person can open."""
        return list(environments_of(self.user).order_by("name", "slug")[:50])

    @property
    def current(self) -> Membership | None:
        return self.principal.membership if self.principal else None

    @property
    def is_console(self) -> bool:
        return isinstance(self.principal, ConsolePrincipal)

    @property
    def may_change(self) -> bool:
        """Whether the vendor's person who looks at the console may do more than read."""
        member = self.principal.vendor_membership if self.principal else None
        return member is not None and member.role != VendorMembership.Role.AUDITOR

    @property
    def tokens_url(self) -> str:
        return self.place.url("tokens") if self.place else ""

    @property
    def roles_url(self) -> str:
        return self.place.url("roles") if self.place else ""

    @property
    def environment(self) -> Environment | None:
        return self.principal.environment if self.principal else None

    @cached_property
    def personal_tabs(self) -> list[Tab]:
        """The person's own pages."""
        if self.portal_session:
            return []
        is_vouched = self.user.voucher_id is not None
        hidden = LOCAL_TABS if is_vouched else frozenset()
        offered = [(label, reverse(name), icon) for label, name, icon in PERSONAL_TABS if name not in hidden]
        here = max((url for _, url, _ in offered if self.path.startswith(url)), key=len, default="")
        return [Tab(label=str(label), url=url, icon=icon, is_current=url == here) for label, url, icon in offered]

    @cached_property
    def tabs(self) -> list[Tab]:
        """Tabs that would answer 403 are absent."""
        if self.principal is None or self.place is None:
            if self.portal_session:
                return []
            is_own = any(tab.is_current for tab in self.personal_tabs)
            return self.personal_tabs if is_own or self.path == reverse("account_change_password") else []
        offered = [(to, self.place.url(to.name)) for to in self.tabs_to if self._offers(to, self.principal)]
        # The longest address that leads here: one tab's may begin like another's.
        here = max((url for _, url in offered if self.path.startswith(url)), key=len, default="")
        return [Tab(label=str(to.label), url=url, icon=to.icon, is_current=url == here) for to, url in offered]

    def _offers(self, to: TabTo, principal: PagePrincipal) -> bool:
        is_shown = self.portal_session is None or to.name in self.portal_session.sections
        return is_shown and principal.holds(to.permission)


def navigation(request: HttpRequest) -> dict[str, Navigation | None]:
    """A context processor; asks the database only when a template asks it."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {"nav": None}
    nav = Navigation(
        user=user,
        path=request.path,
        principal=getattr(request, "principal", None),
        place=getattr(request, "place", None),
        tabs_to=getattr(request, "tabs_to", ()),
        portal_session=getattr(request, "portal_session", None),
    )
    return {"nav": nav}
