"""The permissions of an environment: listed, made, described and ended."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.db.models import Count
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from apitokens import access
from apitokens.governance import permissions as governance
from apitokens.governance.in_use import in_words
from apitokens.governance.permissions import DESCRIPTION_MAX, MOST_PERMISSIONS, OWNER_FLAGS, PermissionChange
from apitokens.orders import InvalidField
from apitokens.pages import roles as pages
from apitokens.pages.places import PageRequest
from apitokens.pages.refusable import VersionedForm
from apitokens.pages.role_forms import DeletionForm
from apitokens.principals import ConsolePrincipal
from audit.services import Refusal
from console.doors import console_page
from tenants.models import Permission
from tenants.policy import PermissionMissing

UNPROCESSABLE = 422
FORM = ["GET", "HEAD", "POST"]
OWNERS = {
    "for_environment_tokens": gettext_lazy("Tokens of your backend may be granted it"),
    "for_tenant_tokens": gettext_lazy("Tokens of tenants may be granted it"),
    "for_personal_tokens": gettext_lazy("Personal tokens may be granted it"),
}

SHORT = {
    "for_environment_tokens": gettext_lazy("Backend"),
    "for_tenant_tokens": gettext_lazy("Tenants"),
    "for_personal_tokens": gettext_lazy("Personal"),
}


class PermissionForm(VersionedForm):
    description = forms.CharField(
        label=gettext_lazy("Description"),
        max_length=DESCRIPTION_MAX,
        required=False,
        help_text=gettext_lazy("What it lets one do, for those who choose it for a role or a token."),
    )
    for_environment_tokens = forms.BooleanField(label=OWNERS["for_environment_tokens"], required=False)
    for_tenant_tokens = forms.BooleanField(label=OWNERS["for_tenant_tokens"], required=False)
    for_personal_tokens = forms.BooleanField(label=OWNERS["for_personal_tokens"], required=False)


class NewPermissionForm(PermissionForm):
    key = forms.CharField(
        label=gettext_lazy("Key"),
        max_length=128,
        help_text=gettext_lazy("Such as reports:read. It is what your API checks, and can never be changed."),
    )
    field_order = ["version", "key", "description", *OWNER_FLAGS]


@require_safe
def permission_list(request: PageRequest, principal: ConsolePrincipal) -> HttpResponse:
    """All of them: there are no more than can be looked at."""
    found = Permission.objects.filter(environment=principal.environment).annotate(role_count=Count("role_permissions"))
    rows = list(found.order_by("is_built_in", "key")[: 2 * MOST_PERMISSIONS])
    context = {
        "permissions": [_row(request, row) for row in rows if not row.is_built_in],
        "built_in": [_row(request, row) for row in rows if row.is_built_in],
        "create_url": request.place.url("permission-new"),
    }
    return render(request, "console/permissions/list.html", context)


@require_http_methods(FORM)
def permission_new(request: PageRequest, principal: ConsolePrincipal) -> HttpResponse:
    if request.method != "POST":
        access.require(principal, "permissions:create")
    initial = dict.fromkeys(OWNER_FLAGS, True)
    form = NewPermissionForm(request.POST if request.method == "POST" else None, version="", initial=initial)
    if form.is_valid():
        asked = {name: value for name, value in form.cleaned_data.items() if name != "version"}
        try:
            made = governance.create(by=principal, at=timezone.now(), **asked)
        except PermissionMissing:
            raise
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            messages.success(request, _("The permission %(key)s was made. Give it to roles here.") % {"key": made.key})
            return redirect(request.place.url("roles"))
    context = {"form": form, "permission": None, "back_url": request.place.url("permissions")}
    return render(request, "console/permissions/form.html", context, status=UNPROCESSABLE if form.errors else 200)


@require_http_methods(FORM)
def permission_edit(request: PageRequest, principal: ConsolePrincipal, permission_id: UUID) -> HttpResponse:
    found = access.open_permission(principal, permission_id)
    if request.method != "POST":
        access.require(principal, "permissions:create")
    snapshot = governance.snapshot(found)
    form = PermissionForm(
        request.POST if request.method == "POST" else None, version=governance.version(found), initial=snapshot
    )
    if form.is_valid():
        data = dict(form.cleaned_data)
        expected = data.pop("version")
        change = PermissionChange(**data)
        try:
            governance.edit(by=principal, permission=found, change=change, at=timezone.now(), expected=expected)
        except PermissionMissing:
            raise
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            messages.success(request, _("The permission was changed."))
            return redirect(request.place.url("permissions"))
    context = {"form": form, **_row(request, found), "back_url": request.place.url("permissions")}
    return render(request, "console/permissions/form.html", context, status=UNPROCESSABLE if form.errors else 200)


@require_http_methods(FORM)
def permission_delete(request: PageRequest, principal: ConsolePrincipal, permission_id: UUID) -> HttpResponse:
    """Asks on a page of its own what takes its place in roles, and shows which tokens would lose it."""
    found = access.open_permission(principal, permission_id)
    if request.method != "POST":
        access.require(principal, "permissions:delete")
    usage = governance.usage_of(found)
    others = Permission.objects.filter(environment=principal.environment).exclude(pk=found.pk).order_by("key")
    form = DeletionForm(
        request.POST if request.method == "POST" else None,
        others=[(str(pk), key) for pk, key in others.values_list("pk", "key")[: 2 * MOST_PERMISSIONS]],
        version=governance.version(found),
        is_used=any(usage.values()),
    )
    if form.is_valid() and request.POST.get("step") != pages.EDIT:
        asked = {
            "by": principal,
            "permission": found,
            "at": timezone.now(),
            "expected": form.cleaned_data["version"],
        }
        try:
            asked["replacement"] = _named(principal, form.replacement_id)
            if request.POST.get("step") != pages.SAVE:
                impact = governance.preview_delete(**asked)
                if impact.count:
                    heading = _("Delete the permission %(key)s?") % {"key": found.key}
                    label = _("Delete the permission")
                    return pages.review(request, principal, impact, heading=heading, submit_label=label, tone="danger")
            governance.delete(**asked, force=any(usage.values()) and not form.replacement_id)
        except PermissionMissing:
            raise
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            messages.success(request, _("The permission %(key)s was deleted.") % {"key": found.key})
            return redirect(request.place.url("permissions"))
    context = {"form": form, **_row(request, found), "usage": in_words(usage)}
    context["back_url"] = request.place.url("permissions")
    return render(request, "console/permissions/delete.html", context, status=UNPROCESSABLE if form.errors else 200)


def _row(request: PageRequest, permission: Permission) -> dict[str, Any]:
    return {
        "permission": permission,
        "owners": [label for flag, label in SHORT.items() if getattr(permission, flag)],
        "edit_url": request.place.url("permission-edit", permission.id),
        "delete_url": request.place.url("permission-delete", permission.id),
    }


def _named(principal: ConsolePrincipal, permission_id: str) -> Permission | None:
    """The one that was chosen; raises InvalidField for one that is not there, or not any more."""
    if not permission_id:
        return None
    try:
        return access.open_permission(principal, UUID(permission_id))
    except (ValueError, Http404) as error:
        raise InvalidField("replacement", _("This permission is not there any more: choose another one.")) from error


_to_permissions = console_page("permissions:read")
urlpatterns = [
    path("permissions/", _to_permissions(permission_list), name="permissions"),
    path("permissions/new/", _to_permissions(permission_new), name="permission-new"),
    path("permissions/<uuid:permission_id>/edit/", _to_permissions(permission_edit), name="permission-edit"),
    path("permissions/<uuid:permission_id>/delete/", _to_permissions(permission_delete), name="permission-delete"),
]
