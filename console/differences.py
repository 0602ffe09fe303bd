"""What would be copied, in words: a group a kind, a line a difference."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from apitokens.governance.copying import Diff, Difference
from apitokens.models import Kind, Owner
from apitokens.pages import words
from apitokens.pages.rows import KINDS as TOKEN_KINDS
from audit.words import listed

HEADINGS = {
    "permission": gettext_lazy("Permissions"),
    "role": gettext_lazy("Roles"),
    "token_type": gettext_lazy("Token types"),
}
CHANGES = {
    "added": gettext_lazy("Added"),
    "changed": gettext_lazy("Changed"),
    "only_here": gettext_lazy("Only here, stays"),
}
OWNERS = {
    Owner.ENVIRONMENT: gettext_lazy("The environment's"),
    Owner.TENANT: gettext_lazy("Tenants'"),
    Owner.USER: gettext_lazy("Personal"),
}
SETTINGS, SECONDS = words.SETTINGS, words.SECONDS


@dataclass(frozen=True, kw_only=True)
class Group:
    heading: str
    rows: list["DifferenceRow"]


@dataclass(frozen=True)
class DifferenceRow:
    difference: Difference

    @property
    def title(self) -> str:
        if self.difference.kind != "token_type":
            return self.difference.key
        owner, kind = self.difference.key.split()
        return f"{OWNERS[Owner(owner)]} · {TOKEN_KINDS[Kind(kind)]}"

    @property
    def change(self) -> str:
        return self.difference.change

    @property
    def change_label(self) -> str:
        return str(CHANGES[self.difference.change])

    @property
    def details(self) -> list[str]:
        """A line for each thing that differs; of something new what it will be."""
        if self.change == "only_here":
            return []
        is_new = self.difference.before is None
        lines = []
        for name, before, after in self.difference.changed:
            if name == "permissions":
                lines += _of_set(before or [], after)
            elif is_new:
                lines.append(_("%(name)s: %(what)s") % {"name": SETTINGS[name], "what": _value(name, after)})
            else:
                words = {"name": SETTINGS[name], "before": _value(name, before), "after": _value(name, after)}
                lines.append(_("%(name)s: %(before)s → %(after)s") % words)
        return lines

    @property
    def effects(self) -> list[str]:
        """Whom it reaches here, in words."""
        tokens, members = self.difference.tokens, self.difference.members
        of_tokens = ngettext("%d token", "%d tokens", tokens) % tokens
        of_members = ngettext("%d member", "%d members", members) % members
        words = {
            "members_and_tokens_lose": _("Takes permissions from %(members)s and %(tokens)s with this role, at once."),
            "members_gain": _("Gives %(members)s with this role more permissions; its tokens gain none."),
            "tokens_granted_below_lose_it": _(
                "Takes the role from tokens that somebody of a lower level granted, of %(tokens)s that have it."
            ),
            "tokens_stop": _("Stops %(tokens)s of this type at once."),
            "tokens_resume": _("Lets %(tokens)s of this type work again."),
            "binds_new_tokens": _("Binds tokens made or changed from now on; those that exist stay as they are."),
        }
        reached = {"members_gain": members, "tokens_granted_below_lose_it": tokens, "tokens_resume": tokens,
                   "tokens_stop": tokens, "members_and_tokens_lose": tokens + members}  # fmt: skip
        return [
            words[effect] % {"tokens": of_tokens, "members": of_members}
            for effect in self.difference.effects
            if reached.get(effect, 1)
        ]

    @property
    def is_biting(self) -> bool:
        losing = {"members_and_tokens_lose", "tokens_granted_below_lose_it", "tokens_stop"}
        return bool(losing & set(self.difference.effects)) and bool(self.difference.tokens or self.difference.members)


def groups(diff: Diff) -> list[Group]:
    rows = [DifferenceRow(each) for each in diff.differences]
    return [
        Group(heading=str(heading), rows=of_kind)
        for kind, heading in HEADINGS.items()
        if (of_kind := [row for row in rows if row.difference.kind == kind])
    ]


def in_words(before: Mapping[str, object], after: Mapping[str, object]) -> list[tuple[str, str, str]]:
    """Each setting that is not as it was: its name, what it was, what it is."""
    return [
        (str(SETTINGS[name]), _value(name, before[name]), _value(name, after[name]))
        for name in SETTINGS
        if name in after and after[name] != before[name]
    ]


def _of_set(before: list[str], after: list[str]) -> list[str]:
    gained, lost = sorted(set(after) - set(before)), sorted(set(before) - set(after))
    lines = []
    if gained:
        lines.append(_("Gets %(keys)s") % {"keys": listed(gained)})
    if lost:
        lines.append(_("Loses %(keys)s") % {"keys": listed(lost)})
    return lines


def _value(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, list):
        return listed(value) or _("none")
    if value is None and name == "roles":
        return _("every role")
    if value is None:
        return _("never") if name == "default_lifetime" else _("no limit")
    return words.in_words(value) if name in SECONDS else str(value)
