"""Forms of roles: shapes and choices; whether something may be given is the service's to say."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from django import forms
from django.utils.text import capfirst, format_lazy
from django.utils.translation import gettext_lazy as _

from apitokens.governance.roles import KEY_MAX, RoleChange
from apitokens.orders import NAME_MAX
from apitokens.pages.choices import ExplainedCheckboxes, OfferedChoice, OfferedChoices
from apitokens.pages.refusable import VersionedForm
from audit.services import Refusal
from tenants.models import LEVEL_MAX, Permission, Role
from tenants.policy import Grantor, HeldRole, PermissionAboveCeiling, RoleAboveCeiling, why_not

LOSE_IT = "none"


class RoleForm(VersionedForm):
    """A role that is changed. `held` is what it is now, None for a new one."""

    name = forms.CharField(label=_("Name"), max_length=NAME_MAX)
    level = forms.IntegerField(
        label=_("Level"),
        help_text=format_lazy(
            _("From 0 to {most}; higher means more power. Nobody gives a role above their own level."), most=LEVEL_MAX
        ),
    )
    permissions = OfferedChoices(label=_("Permissions"), required=False, widget=ExplainedCheckboxes)
    built_in = OfferedChoices(
        label=_("Built-in permissions"),
        required=False,
        widget=ExplainedCheckboxes,
        help_text=_("They open the pages and endpoints of this portal."),
    )

    def __init__(
        self,
        *args: Any,
        offered: Iterable[Permission],
        grantor: Grantor,
        held: HeldRole | None = None,
        version: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, version=version, **kwargs)
        has = held.permissions if held else frozenset()
        rows = sorted(offered, key=lambda row: row.key)
        described = {row.key: row.meaning for row in rows}

        def explain(key: str) -> tuple[str, str]:
            lacks = not grantor.holds(key) and key not in has
            return described.get(key, ""), str(_("You don't have it yourself.")) if lacks else ""

        for name, is_built_in in (("permissions", False), ("built_in", True)):
            keys = [row.key for row in rows if row.is_built_in == is_built_in]
            field: Any = self.fields[name]
            field.choices = [(key, key) for key in keys]
            field.widget.explain = explain
            field.initial = [key for key in keys if key in has]
        if all(row.is_built_in for row in rows):
            del self.fields["permissions"]

    def keys(self) -> list[str]:
        return [*self.cleaned_data.get("permissions", []), *self.cleaned_data["built_in"]]

    def change(self) -> RoleChange:
        data = self.cleaned_data
        return RoleChange(name=data["name"], level=data["level"], permissions=self.keys())

    def field_of(self, refusal: Refusal) -> str:
        """A role that is refused as a whole is so for its level, or for what it holds."""
        field = refusal.field
        if isinstance(refusal, RoleAboveCeiling):
            field = "permissions" if refusal.missing else "level"
        return "built_in" if field == "permissions" and self._is_of_built_in(refusal) else field

    def _is_of_built_in(self, refusal: Refusal) -> bool:
        keys = {key for key, _label in self.fields["built_in"].choices}  # type: ignore[attr-defined]
        missing: Collection[str] = refusal.missing if isinstance(refusal, RoleAboveCeiling) else ()
        if isinstance(refusal, PermissionAboveCeiling):
            missing = refusal.permissions
        return "permissions" not in self.fields or (bool(missing) and keys.issuperset(missing))


class NewRoleForm(RoleForm):
    key = forms.CharField(
        label=_("Key"),
        max_length=KEY_MAX + len("own:"),
        required=False,
        help_text=_("What machines call it; it never changes. Empty: made from the name."),
    )
    field_order = ["version", "name", "key", "level", "permissions", "built_in"]


class DeletionForm(VersionedForm):
    """What becomes of those who have it; asked only where somebody has."""

    instead = OfferedChoice(label=_("What takes its place?"))

    def __init__(
        self, *args: Any, others: Sequence[tuple[str, str]], version: str, is_used: bool, **kwargs: Any
    ) -> None:
        super().__init__(*args, version=version, **kwargs)
        if is_used:
            choices = [("", _("Choose…")), *others, (LOSE_IT, _("Nothing: everybody who has it loses it"))]
            field: Any = self.fields["instead"]
            field.choices = choices
        else:
            del self.fields["instead"]

    @property
    def replacement_id(self) -> str:
        """The id of what takes its place; empty for nothing."""
        chosen = self.cleaned_data.get("instead", "")
        return "" if chosen == LOSE_IT else chosen

    def field_of(self, refusal: Refusal) -> str:
        return "instead" if refusal.field in {"replacement", "roles", "permissions"} else refusal.field


def replacements(
    roles: Iterable[Role], held: dict[Any, HeldRole], grantor: Grantor, *, strict: bool
) -> list[tuple[str, str]]:
    """Those that may take another's place, with the reason at those that may not."""
    choices = []
    for role in roles:
        because = why_not(grantor, held[role.id], strict=strict)
        label = _("%(role)s: %(because)s") % {"role": role.name, "because": capfirst(because)} if because else role.name
        choices.append((str(role.id), label))
    return choices
