"""The permissions × roles matrix of an environment, and each of its roles."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from apitokens.changing import Stale
from apitokens.governance import roles as governance
from apitokens.governance.roles import RoleChange
from apitokens.orders import InvalidField
from apitokens.pages import roles as pages
from apitokens.pages.paging import page_of
from apitokens.pages.places import PageRequest
from apitokens.paging import KeyPages
from apitokens.principals import ConsolePrincipal
from audit.services import Refusal
from audit.words import listed
from console.doors import console_page
from tenants.models import Permission, Role
from tenants.policy import PermissionMissing
from tenants.queries import held_roles

UNPROCESSABLE = 422
# So many cells that all ticked at once pass the limit on the number of fields, whatever the environment has.
COLUMNS, ROWS = 5, 40
INTEGER_MAX = 10


@dataclass
class Column:
    """One role of the matrix: as it is, and as it was typed. `ticked` are indexes of shown permissions."""

    role: Role
    version: str
    level: str
    ticked: frozenset[int]
    was_level: str
    was_ticked: frozenset[int]
    url: str
    error: str = ""

    @property
    def level_error(self) -> str:
        """What is wrong with the level as it was typed, if anything."""
        try:
            governance.clean_level(_number(self.level, -1))
        except InvalidField as refusal:
            return str(refusal)
        return ""

    @property
    def is_touched(self) -> bool:
        return self.level != self.was_level or self.ticked != self.was_ticked

    @property
    def was_ticked_field(self) -> str:
        return " ".join(str(index) for index in sorted(self.was_ticked))


@dataclass(frozen=True)
class Row:
    index: int
    permission: Permission
    # The column beside whether the role holds it.
    cells: list[tuple[Column, bool]]


@require_http_methods(["GET", "HEAD", "POST"])
def roles(request: PageRequest, principal: ConsolePrincipal) -> HttpResponse:
    """What the vendor's roles hold, many changed at once: reviewed first, saved from the review."""
    window = _window(request, principal)
    columns = _columns(request, window, rebased=window.is_cut)
    errors: list[str] = []
    if window.is_cut:
        errors = [
            _(
                "A role or a permission was deleted since you opened this page. What you typed for the others is kept: "
                "look at it, and review it again."
            )
        ]
    elif request.method == "POST" and request.POST.get("step") != pages.EDIT:
        try:
            return _change(request, principal, window, columns)
        except PermissionMissing:
            raise
        except Refusal as refusal:
            errors = [str(refusal)]
            if isinstance(refusal, Stale):
                columns = _columns(request, window, rebased=True)
    return _matrix(request, principal, window, columns, errors)


def _change(
    request: PageRequest, principal: ConsolePrincipal, window: "_Window", columns: list[Column]
) -> HttpResponse:
    touched = [column for column in columns if column.is_touched]
    if not touched:
        raise InvalidField("roles", _("Nothing was changed: tick or untick something first."))
    for column in touched:
        if column.level_error:
            raise InvalidField(
                "level", _("%(name)s: %(level_error)s") % {"name": column.role.name, "level_error": column.level_error}
            )
    changes = {column.role.id: _role_change(column, window) for column in touched}
    expected = {column.role.id: column.version for column in touched}
    at = timezone.now()
    if request.POST.get("step") != pages.SAVE:
        impact = governance.preview(by=principal, changes=changes, at=at, expected=expected)
        gains = [(column.role.name, added) for column in touched if (added := _added(column, window))]
        heading = _("Change %(roles)s?") % {"roles": listed(column.role.name for column in touched)}
        return pages.review(
            request, principal, impact, heading=heading, submit_label=_("Save the changes"), gains=gains
        )
    governance.edit_many(by=principal, changes=changes, at=at, expected=expected)
    messages.success(request, _("The roles were changed."))
    return redirect(request.get_full_path())


def _matrix(
    request: PageRequest, principal: ConsolePrincipal, window: "_Window", columns: list[Column], errors: list[str]
) -> HttpResponse:
    rows = [
        Row(index, permission, [(column, index in column.ticked) for column in columns])
        for index, permission in enumerate(window.shown)
    ]
    own_pages = KeyPages()
    own = pages.counted(Role.objects.filter(environment=principal.environment, tenant__isnull=False), principal)
    own_page = page_of(own_pages, own.select_related("tenant", "environment"), request)
    context = {
        "columns": columns,
        "rows": [row for row in rows if not row.permission.is_built_in],
        "built_in": [row for row in rows if row.permission.is_built_in],
        "shown": " ".join(permission.key for permission in window.shown),
        "errors": errors,
        "window": window,
        "own": pages.role_rows(own_page, request, principal),
        "next_url": own_pages.get_next_link(),
        "previous_url": own_pages.get_previous_link(),
        "create_url": request.place.url("role-new"),
        "permissions_url": request.place.url("permissions"),
    }
    return render(request, "console/roles/matrix.html", context, status=UNPROCESSABLE if errors else 200)


@dataclass(frozen=True)
class _Window:
    """The part of the matrix that is shown. Of a form that was sent: the part that it showed."""

    roles: list[Role]
    shown: list[Permission]
    held: dict[UUID, frozenset[str]]
    versions: dict[UUID, str]
    columns_before: str
    columns_after: str
    rows_before: str
    rows_after: str
    # Of a form that was sent: the numbers that it gave the roles, and by its indexes those of `shown`. It is cut when
    # something that it showed is not there any more.
    numbers: list[int]
    indexes: dict[int, int]
    is_cut: bool


def _window(request: PageRequest, principal: ConsolePrincipal) -> _Window:
    columns, rows = _number(request.GET.get("columns")), _number(request.GET.get("rows"))
    every = Role.objects.filter(environment=principal.environment, tenant__isnull=True).order_by("level", "key")
    permissions = Permission.objects.filter(environment=principal.environment).order_by("key")
    more_roles = more_rows = is_cut = False
    if request.method == "POST":
        by_number, by_index, is_cut = _sent(request.POST, every, permissions)
        found, own = list(by_number.values()), list(by_index.values())
        numbers, indexes = list(by_number), {sent: now for now, sent in enumerate(by_index)}
    else:
        found = list(every[columns * COLUMNS : (columns + 1) * COLUMNS + 1])
        own = list(permissions.filter(is_built_in=False)[rows * ROWS : (rows + 1) * ROWS + 1])
        more_roles, more_rows = len(found) > COLUMNS, len(own) > ROWS
        found = found[:COLUMNS]
        own = [*own[:ROWS], *permissions.filter(is_built_in=True)]
        numbers, indexes = [*range(len(found))], {index: index for index in range(len(own))}
    held = held_roles(found)
    return _Window(
        roles=found,
        shown=own,
        held={pk: role.permissions for pk, role in held.items()},
        versions={role.id: governance.version(role, held[role.id]) for role in found},
        columns_before=f"?columns={columns - 1}&rows={rows}" if columns else "",
        columns_after=f"?columns={columns + 1}&rows={rows}" if more_roles else "",
        rows_before=f"?columns={columns}&rows={rows - 1}" if rows else "",
        rows_after=f"?columns={columns}&rows={rows + 1}" if more_rows else "",
        numbers=numbers,
        indexes=indexes,
        is_cut=is_cut,
    )


def _sent(data: QueryDict, every: Any, permissions: Any) -> tuple[dict[int, Role], dict[int, Permission], bool]:
    """The roles and permissions that the form showed, by its numbers, in its order; and whether some are gone.

    Raises Http404 for what was never in a form of ours.
    """
    try:
        ids = {number: UUID(str(data[f"r{number}"])) for number in range(COLUMNS) if f"r{number}" in data}
    except ValueError as error:
        raise Http404 from error
    roles = {role.id: role for role in every.filter(pk__in=ids.values())}
    keys = data.get("shown", "").replace("\0", "").split(" ")
    by_key = {permission.key: permission for permission in permissions.filter(key__in=keys)}
    by_number = {number: roles[pk] for number, pk in ids.items() if pk in roles}
    keys = [key for key in keys if key]
    by_index = {index: by_key[key] for index, key in enumerate(keys) if key in by_key}
    return by_number, by_index, len(by_number) < len(ids) or len(by_index) < len(keys)


def _columns(request: PageRequest, window: _Window, *, rebased: bool = False) -> list[Column]:
    """As typed, if a form was sent. Rebased, what was typed counts as a change of what is there now."""
    columns = []
    for number, role in zip(window.numbers, window.roles, strict=True):
        now = frozenset(
            index for index, permission in enumerate(window.shown) if permission.key in window.held[role.id]
        )
        column = Column(
            role=role,
            version=window.versions[role.id],
            level=str(role.level),
            ticked=now,
            was_level=str(role.level),
            was_ticked=now,
            url=request.place.url("role", role.id),
        )
        # A column without its level was not in the form: it is not one from which everything was unticked.
        if request.method == "POST" and f"l{number}" in request.POST:
            data = request.POST
            typed = data.get(f"l{number}", "").strip(), _indexes(data.getlist(f"p{number}"), window)
            was = data.get(f"m{number}", ""), _indexes(data.get(f"w{number}", "").split(), window)
            if not rebased:
                column.version = data.get(f"v{number}", "")
                column.was_level, column.was_ticked = was
            if not rebased or typed != was:
                column.level, column.ticked = typed
            if rebased and column.is_touched and data.get(f"v{number}") != column.version:
                column.error = _("Changed by somebody else since you opened it. What you see is what you typed.")
        columns.append(column)
    return columns


def _indexes(texts: list[str], window: _Window) -> frozenset[int]:
    numbers = {_number(text, -1) for text in texts}
    return frozenset(window.indexes[number] for number in numbers if number in window.indexes)


def _number(text: str | None, default: int = 0) -> int:
    """A small whole number from an address or a form; whatever else it is, the default."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < INTEGER_MAX else default


def _role_change(column: Column, window: _Window) -> RoleChange:
    """What the role shall hold: what is ticked, and what it holds of what is not shown."""
    unseen = window.held[column.role.id] - {permission.key for permission in window.shown}
    ticked = {window.shown[index].key for index in column.ticked}
    return RoleChange(level=_number(column.level, -1), permissions=sorted(unseen | ticked))


def _added(column: Column, window: _Window) -> list[str]:
    return [window.shown[index].key for index in sorted(column.ticked - column.was_ticked)]


_to_roles = console_page("roles:read")
urlpatterns = [
    path("roles/", _to_roles(roles), name="roles"),
    path("roles/new/", _to_roles(pages.role_new), name="role-new"),
    path("roles/<uuid:role_id>/", _to_roles(pages.role), name="role"),
    path("roles/<uuid:role_id>/edit/", _to_roles(pages.role_edit), name="role-edit"),
    path("roles/<uuid:role_id>/delete/", _to_roles(pages.role_delete), name="role-delete"),
]
