"""What a change changed, in words: a short line a field."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from apitokens.pages.targets import Known, cell, in_short, vendor_role
from apitokens.pages.words import SECONDS, SETTINGS, at_moment, in_words
from audit.models import AuditEvent
from audit.words import listed
from tenants.models import Environment

FIELDS: Mapping[str, str | Promise] = {
    **SETTINGS,
    "accent": gettext_lazy("Accent colour"),
    "api_identifiers": gettext_lazy("API identifiers"),
    "audiences": gettext_lazy("APIs"),
    "brand_name": gettext_lazy("Name of the brand"),
    "client_id": gettext_lazy("Client id"),
    "colour": gettext_lazy("Colour"),
    "compromised": gettext_lazy("Compromised"),
    "deadline": gettext_lazy("The old one works until"),
    "default_role": gettext_lazy("Role of a new tenant's client"),
    "enforced": gettext_lazy("The only way in"),
    "environments": gettext_lazy("Environments"),
    "expires_at": gettext_lazy("Expires"),
    "external_id": gettext_lazy("External id"),
    "granted": gettext_lazy("Permissions"),
    "granted_through": gettext_lazy("Granted"),
    "ip_allowlist": gettext_lazy("Networks"),
    "key": gettext_lazy("Key"),
    "logo": gettext_lazy("Logo"),
    "not_before": gettext_lazy("Starts"),
    "permissions": gettext_lazy("Permissions"),
    "reauthenticate_after": gettext_lazy("People are asked again after"),
    "embedding_origins": gettext_lazy("Embedding origins"),
    "replacement": gettext_lazy("Replaced by"),
    "roles": gettext_lazy("Roles"),
    "secret_set_at": gettext_lazy("Secret set"),
    "secrets": gettext_lazy("Secrets and keys"),
    "signing_algorithm": gettext_lazy("Signing algorithm"),
    "strict_ceiling": gettext_lazy("Strict ceiling"),
    "vendor_role": gettext_lazy("Role"),
    # Of what was copied from another environment.
    "permission": gettext_lazy("Permissions"),
    "role": gettext_lazy("Roles"),
    "token_type": gettext_lazy("Token types"),
}
# The verb says it already, or it is not for people.
SILENT = {"active_from", "deleted_at", "ended_at", "retiring_from", "suspended_at", "usage", "user"}
THROUGH = {
    "owner": gettext_lazy("same as its owner"),
    "permissions": gettext_lazy("picked permissions"),
    "roles": gettext_lazy("through roles"),
}
# What it means that a field has no value; of all others there is no limit.
NOTHING: Mapping[str, str | Promise] = {
    "default_lifetime": gettext_lazy("never"),
    "expires_at": gettext_lazy("never"),
    "environments": gettext_lazy("all"),
    "roles": gettext_lazy("every role"),
    "deadline": gettext_lazy("none"),
    "external_id": gettext_lazy("none"),
    "not_before": gettext_lazy("at once"),
    "replacement": gettext_lazy("none"),
}
MOMENTS = {"deadline", "expires_at", "not_before", "secret_set_at"}
FIELDS_MOST, TEXT_MAX = 12, 80
MINUS = "\N{MINUS SIGN}"


def changes(event: AuditEvent, known: Known) -> list[str]:
    """Only of what was there before and after; a new thing is described by its name, and a refusal changed nothing."""
    if not event.before or not event.after or event.reason:
        return []
    before, after = event.before, event.after
    # What was not there before and is nothing now, did not happen.
    changed = [
        name
        for name in after
        if name not in SILENT and after[name] != before.get(name) and (name in before or after[name])
    ]
    lines = [_line(event, known, name) for name in sorted(changed)]
    if "from" in after:
        lines.insert(0, _("From %(environment)s") % {"environment": str(after["from"])[:TEXT_MAX]})
    if len(lines) > FIELDS_MOST:
        more = len(lines) - FIELDS_MOST
        lines[FIELDS_MOST:] = [ngettext("and %(count)s more", "and %(count)s more", more) % {"count": more}]
    return lines


def _line(event: AuditEvent, known: Known, name: str) -> str:
    before, after = (event.before or {}).get(name), (event.after or {}).get(name)
    label = str(FIELDS.get(name) or name.replace("_", " ").capitalize())

    def named(keys: Sequence[str]) -> list[str]:
        return known.roles(event, keys) if name == "roles" else [str(key) for key in keys]

    if isinstance(before, dict) and isinstance(after, dict):
        return _("%(name)s %(what)s") % {"name": label, "what": _copied(name, before, after)}
    if isinstance(before, list) and isinstance(after, list):
        return _("%(name)s %(what)s") % {"name": label, "what": _of_lists(named, before, after)}
    words = [_value(name, value, named) for value in (before, after)]
    if name == "default_role" or (name == "replacement" and event.target_kind == "role"):
        words = known.roles(event, words)
    if name not in (event.before or {}):
        return _("%(name)s %(what)s") % {"name": label, "what": words[1]}
    return _("%(name)s %(before)s → %(after)s") % {"name": label, "before": words[0], "after": words[1]}


def _of_lists(named: Callable[[Sequence[str]], list[str]], before: list[str], after: list[str]) -> str:
    gained = [each for each in after if each not in set(before)]
    lost = [each for each in before if each not in set(after)]
    signed = [f"{sign} {in_short(named(keys))}" for sign, keys in (("+", gained), (MINUS, lost)) if keys]
    return " ".join(signed) or _("→ %(after)s") % {"after": in_short(named(after))}


def _copied(kind: str, before: dict[str, Any], after: dict[str, Any]) -> str:
    """By key: what is new, and what is other than it was."""
    keys = {key: _cell_of(key) if kind == "token_type" else key for key in sorted(after)}
    new = [word for key, word in keys.items() if before.get(key) is None]
    other = [word for key, word in keys.items() if before.get(key) is not None]
    words = [f"+ {in_short(new)}"] if new else []
    if other:
        words.append(_("changed: %(what)s") % {"what": in_short(other)})
    return listed(words)


def _cell_of(key: str) -> str:
    owner, _space, kind = key.partition(" ")
    return cell({"owner": owner, "kind": kind}) or key


def _value(name: str, value: Any, named: Callable[[Sequence[str]], list[str]]) -> str:
    if value is None:
        return str(NOTHING.get(name) or _("no limit"))
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, list):
        return in_short(named(value)) or _("none")
    if name == "reauthenticate_after" and not value:
        return _("never")
    if name in SECONDS:
        return in_words(value)
    if name in MOMENTS:
        return at_moment(datetime.fromisoformat(value))
    codes: Mapping[str, Mapping[str, Any]] = {"granted_through": THROUGH, "colour": dict(Environment.Colour.choices)}
    text = vendor_role(value) if name == "vendor_role" else str(codes.get(name, {}).get(value, value))
    return (text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}…") or _("none")
