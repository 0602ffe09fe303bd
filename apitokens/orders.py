"""What somebody asks a token to be, before anybody has decided whether they may."""

from __future__ import annotations

import ipaddress
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Final

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from audit.services import Refusal
from tenants.models import Membership

if TYPE_CHECKING:
    from apitokens.models import TokenType

NAME_MAX, DESCRIPTION_MAX, NETWORKS_MAX, AUDIENCES_MAX = 100, 1000, 50, 50
IPV4_MAPPED_BITS = 96
CENTURY = 100 * 366 * 24 * 3600
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Unset(Enum):
    """Nothing was said of it, where None says something."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


class InvalidField(Refusal):
    """What was asked for makes no sense or is not on offer. `field` is the name that forms and bodies use."""

    code = "invalid"
    is_denial = False

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, kw_only=True)
class Expiry:
    """At a moment, after so many seconds, never, or (nothing said) after the token type's default lifetime."""

    at: datetime | None = None
    seconds: int | None = None
    never: bool = False

    def settle(self, token_type: TokenType, *, now: datetime) -> datetime | None:
        """The moment within the token type's limits, None for never; raises InvalidField."""
        if self.at is not None and self.seconds is not None:
            raise InvalidField("expires_at", _("Give either expires_at or expires_in, not both."))
        field = "expires_at" if self.at is not None else "expires_in"
        longest = token_type.longest_lifetime
        moment = self._moment(token_type, now)
        if moment is None:
            if token_type.may_never_expire:
                return None
            if longest is None:
                raise InvalidField(field, _("It must expire: choose a moment."))
            raise InvalidField(field, _("It must expire, at the latest after %(time)s.") % {"time": in_days(longest)})
        if moment <= now:
            raise InvalidField(field, _("This moment has passed: choose one in the future."))
        if moment > now + timedelta(seconds=CENTURY):
            raise InvalidField(field, _("This is more than a hundred years away: choose an earlier moment, or never."))
        if longest is not None and moment > now + timedelta(seconds=longest):
            raise InvalidField(
                field,
                _("The longest lifetime here is %(time)s: choose an earlier moment.") % {"time": in_days(longest)},
            )
        return moment

    def _moment(self, token_type: TokenType, now: datetime) -> datetime | None:
        if self.at is not None:
            return self.at
        seconds = None if self.never else self.seconds or token_type.default_lifetime
        return None if seconds is None else now + timedelta(seconds=seconds)


@dataclass(frozen=True, kw_only=True)
class Grant:
    """Roles less some permissions, or permissions picked directly, or neither: a personal token's owner's rights."""

    roles: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Order:
    """`membership` is whose personal token it is to be; roles are named by key or id."""

    owner: str
    kind: str
    name: str
    description: str = ""
    grant: Grant = Grant()
    expiry: Expiry = Expiry()
    not_before: datetime | None = None
    ip_allowlist: tuple[str, ...] = ()
    audiences: tuple[str, ...] = ()
    membership: Membership | None = None
    # A JWK or a PEM; then the token gets no secret.
    public_key: str | None = field(default=None, repr=False)


def clean_beginning(moment: datetime | None, *, now: datetime) -> datetime | None:
    """Before this it does not work; raises InvalidField."""
    if moment is not None and moment > now + timedelta(seconds=CENTURY):
        raise InvalidField("not_before", _("This is more than a hundred years away: choose an earlier moment."))
    return moment


def clean_name(text: str) -> str:
    """Trimmed and in one Unicode form, so that two names that look the same are the same; raises InvalidField."""
    name = unicodedata.normalize("NFC", text).strip()
    if not name:
        raise InvalidField("name", _("Give it a name, so that you know it again in a year."))
    if len(name) > NAME_MAX:
        raise InvalidField(
            "name",
            _("A name has at most %(most)s characters; this one has %(length)s.")
            % {"most": NAME_MAX, "length": len(name)},
        )
    if any(unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for character in name):
        raise InvalidField("name", _("A name can't have control or invisible characters or line breaks."))
    return name


def name_key(name: str) -> str:
    """By which two names are the same: without case and in compatibility form, whatever the script."""
    return unicodedata.normalize("NFKC", name).casefold()


def clean_description(text: str) -> str:
    """Any text, several lines of it; raises InvalidField."""
    description = unicodedata.normalize("NFC", text).replace("\r\n", "\n").strip()
    if len(description) > DESCRIPTION_MAX:
        raise InvalidField(
            "description", _("A description has at most %(most)s characters.") % {"most": DESCRIPTION_MAX}
        )
    if any(unicodedata.category(character) in {"Cc", "Cs"} and character not in "\n\t" for character in description):
        raise InvalidField("description", _("A description can't have control characters."))
    return description


def clean_networks(networks: tuple[str, ...]) -> list[str]:
    """IPv4 and IPv6 addresses and networks, in canonical form; raises InvalidField naming the first that is none."""
    if len(networks) > NETWORKS_MAX:
        raise InvalidField("ip_allowlist", _("At most %(most)s networks can be listed.") % {"most": NETWORKS_MAX})
    clean = []
    for text in networks:
        try:
            clean.append(str(_network(text.strip())))
        except ValueError as error:
            raise InvalidField(
                "ip_allowlist",
                _("%(text)s is not an address or a network like 203.0.113.0/24.") % {"text": repr(text.strip()[:60])},
            ) from error
    return sorted(set(clean))


def _network(text: str) -> Network:
    """As it is compared: an IPv4 network written in IPv6 is IPv4, and a zone means nothing to another machine."""
    network = ipaddress.ip_network(text)
    if "%" in text:
        raise ValueError("an address with a zone")
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < IPV4_MAPPED_BITS:
        return network
    return ipaddress.ip_network(f"{mapped}/{network.prefixlen - IPV4_MAPPED_BITS}")


def is_allowed_from(ip_allowlist: list[str], address: str | None) -> bool:
    """Whether the address lies in one of the networks; no address, or one we can't read, is outside all of them."""
    if not ip_allowlist:
        return True
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return any(ip in ipaddress.ip_network(network) for network in ip_allowlist)


def all_lie_within(networks: Collection[str], others: Collection[str]) -> bool:
    """Whether every address of the networks is in one of the others."""
    outer = [ipaddress.ip_network(other) for other in others]
    return all(any(_is_part(ipaddress.ip_network(network), other) for other in outer) for network in networks)


def common_networks(some: Collection[str], others: Collection[str]) -> list[str]:
    """The networks that lie in both: of any two, one is a part of the other or they have no address in common."""
    pairs = [(ipaddress.ip_network(one), ipaddress.ip_network(other)) for one in some for other in others]
    smaller = {one if _is_part(one, other) else other for one, other in pairs if _overlap(one, other)}
    return sorted(map(str, smaller))


def _overlap(one: Network, other: Network) -> bool:
    return _is_part(one, other) or _is_part(other, one)


def _is_part(inner: Network, outer: Network) -> bool:
    return (
        inner.version == outer.version
        and int(outer.network_address) <= int(inner.network_address)
        and int(inner.broadcast_address) <= int(outer.broadcast_address)
    )


def in_days(seconds: int) -> str:
    """A limit in words."""
    days, rest = divmod(seconds, 86_400)
    if rest:
        return ngettext("%(count)s second", "%(count)s seconds", seconds) % {"count": seconds}
    return ngettext("%(count)s day", "%(count)s days", days) % {"count": days}
