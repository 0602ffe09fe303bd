"""Origins of the vendor's own applications: where the portal may stand in a frame, where its people come back to."""

import re
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from django.utils.translation import gettext as _

from apitokens.orders import InvalidField

ORIGINS_MAX, ORIGIN_MAX, URL_MAX = 20, 255, 2000
# What a URL is made of (RFC 3986 section 2); a browser would read a backslash, a space or a tab its own way.
URL = re.compile(r"[!#-;=?-\[\]_a-z~]+")
LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
HOST = re.compile(rf"{LABEL}(\.{LABEL})*")
LOCAL = frozenset({"localhost", "127.0.0.1"})
DEFAULT_PORTS = {"https": 443, "http": 80}


def clean_all(field: str, texts: Sequence[str]) -> list[str]:
    """In one form and each once; raises InvalidField naming the first that is none."""
    origins = list(dict.fromkeys(clean(field, text) for text in texts))
    if len(origins) > ORIGINS_MAX:
        raise InvalidField(field, _("At most %(most)s can be listed.") % {"most": ORIGINS_MAX})
    return origins


def clean(field: str, text: str) -> str:
    """Without a default port, in small letters; raises InvalidField for what is no origin, or in the clear."""
    text = text.strip()
    parts = _split(text)
    if parts is None or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise InvalidField(
            field,
            _("%(text)s is no origin such as https://app.example.com: https and a host, or http on this machine.")
            % {"text": repr(text[:60])},
        )
    return _origin(parts)


def clean_return_url(field: str, url: str, origins: Sequence[str]) -> str:
    """As it was given; raises InvalidField for an address that is not of one of the origins."""
    parts = _split(url)
    if parts is None or len(url) > URL_MAX:
        raise InvalidField(
            field, _("Give an https address of at most %(most)s characters, or http on localhost.") % {"most": URL_MAX}
        )
    if _origin(parts) not in origins:
        raise InvalidField(
            field,
            _("%(origin)s is not among the environment's embedding origins: list it there first.")
            % {"origin": _origin(parts)},
        )
    return url


def _split(url: str) -> SplitResult | None:
    """None for what is no URL with a host, is not encrypted, or names somebody before the host."""
    if not URL.fullmatch(url.lower()) or len(url) > URL_MAX:
        return None
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        return None
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and host in LOCAL)
    if not is_safe or "@" in parts.netloc or not HOST.fullmatch(host) or len(host) > ORIGIN_MAX - len("https://:65535"):
        return None
    return parts


def _origin(parts: SplitResult) -> str:
    port = f":{parts.port}" if parts.port and parts.port != DEFAULT_PORTS[parts.scheme] else ""
    return f"{parts.scheme}://{parts.hostname}{port}"
