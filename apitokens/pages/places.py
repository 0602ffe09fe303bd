"""Where a page is: in a tenant's portal or in an environment's console. The same page has an address in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.urls import get_script_prefix, get_urlconf, reverse

from apitokens.access import PortalRequest
from apitokens.principals import ConsolePrincipal, MemberPrincipal

PagePrincipal = MemberPrincipal | ConsolePrincipal


@dataclass(frozen=True)
class Place:
    """`slug` is the tenant's or the environment's."""

    namespace: str
    slug: str

    def url(self, name: str, *more: object) -> str:
        return reverse(f"{self.namespace}:{name}", args=[self.slug, *more])

    def url_of_token(self, name: str, token_id: str) -> str:
        """As `url`, for lists: a page of 50 has 200 of them."""
        return _token_url(get_script_prefix(), get_urlconf(), self, name).replace(ANY_ID, token_id)


ANY_ID = "0" * 12


@lru_cache(maxsize=1024)
def _token_url(prefix: str, urlconf: str | None, place: Place, name: str) -> str:
    return place.url(name, ANY_ID)


def outside(name: str, *args: object) -> str:
    """An address that is no page's: the same wherever the page is that leads there, be it an embedded one."""
    return "/" + reverse(name, settings.ROOT_URLCONF, args=args).removeprefix(get_script_prefix())


class PageRequest(PortalRequest):
    """A request that has passed a door; for annotations."""

    place: Place
    tabs_to: Sequence[Any]
