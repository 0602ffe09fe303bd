"""Django's admin, for an operator in an emergency: look at almost everything, mend very little, leave an event of each.

It is mounted only where `ADMIN` is set. What it may change goes through the same services as everywhere. No model that
holds a digest or a private key is in it, and people sign in by the page that everybody signs in by.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any, cast
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import F, Model, Q, QuerySet
from django.forms import ModelForm
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from apitokens.access import user_actor
from apitokens.governance import members, vendor_members
from apitokens.models import ApiToken, TokenType
from apitokens.principals import Principal, system
from audit.models import AuditEvent
from audit.services import Refusal, record
from tenants.models import Environment, Membership, Role, Tenant, VendorMembership

AT_ONCE = 200
COUNTED = 10_000


class RescueSite(admin.AdminSite):
    site_title = site_header = "Tallystick rescue"
    index_title = _("For the operator, in an emergency")

    def has_permission(self, request: HttpRequest) -> bool:
        user = request.user
        return bool(user.is_active and user.is_staff and getattr(user, "is_superuser", False))

    def login(self, request: HttpRequest, extra_context: object = None) -> HttpResponse:
        """The one sign-in page, with its limits; for whoever is signed in and may not, this place does not exist."""
        if self.has_permission(request):
            return redirect("admin:index")
        if request.user.is_authenticated:
            raise Http404
        return redirect_to_login(request.GET.get("next", reverse("admin:index")), reverse("account_login"))

    def password_change(self, request, extra_context=None):
        return redirect("account_change_password")


class Capped(Paginator):
    """Counts no further than anybody pages: a count of the whole record would take minutes."""

    @cached_property
    def count(self) -> int:
        rows = cast(QuerySet[Model], self.object_list)
        return len(rows.order_by().values_list("pk")[:COUNTED])


class ReadOnly(admin.ModelAdmin):
    paginator = Capped
    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    ordering = ("-id",)
    actions: Any = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None):
        return self.fields or ()


class EnvironmentAdmin(ReadOnly):
    list_display = ("name", "slug", "vendor", "suspended_at", "deleted_at")
    list_select_related = ("vendor",)
    search_fields = ("^name", "=slug")
    fields = readonly_fields = (
        "id", "vendor", "name", "slug", "colour", "token_prefix", "signing_algorithm", "strict_ceiling",
        "reauthenticate_after", "embedding_origins", "generation", "suspended_at", "deleted_at", "created_at",
    )  # fmt: skip


class TenantAdmin(ReadOnly):
    list_display = ("name", "slug", "environment", "external_id", "suspended_at", "deleted_at")
    list_select_related = ("environment",)
    search_fields = ("^name", "=slug", "=external_id")
    fields = readonly_fields = (
        "id", "environment", "name", "slug", "external_id", "generation", "suspended_at", "deleted_at", "created_at",
    )  # fmt: skip


class RoleAdmin(ReadOnly):
    list_display = ("name", "key", "level", "environment", "tenant")
    list_select_related = ("environment", "tenant")
    search_fields = ("^name", "=key")
    fields = readonly_fields = (
        "id", "environment", "tenant", "key", "name", "level", "is_for_new_tenants", "permissions",
    )  # fmt: skip


class TokenTypeAdmin(ReadOnly):
    list_display = ("owner", "kind", "environment", "is_enabled")
    list_select_related = ("environment",)
    fields = readonly_fields = (
        "id", "environment", "owner", "kind", "is_enabled", "generation", "carries_all_roles", "roles",
        "default_lifetime", "longest_lifetime", "may_never_expire", "jwt_lifetime", "longest_overlap",
        "requires_ip_allowlist", "quota", "accepts_basic", "may_make_tokens",
    )  # fmt: skip


class ApiTokenAdmin(ReadOnly):
    list_display = ("token_id", "name", "owner", "kind", "environment", "tenant", "disabled_at", "expires_at")
    list_filter = ("owner", "kind")
    list_select_related = ("environment", "tenant")
    search_fields = ("=token_id", "=client_id", "^name")
    fields = readonly_fields = (
        "id", "token_id", "client_id", "name", "description", "owner", "kind", "environment", "tenant", "membership",
        "vendor_membership", "token_type", "granted_through", "granted", "grantor_level", "roles", "ip_allowlist",
        "generation", "disabled_at", "expires_at", "creator", "parent", "created_at",
    )  # fmt: skip


class AuditEventAdmin(ReadOnly):
    list_display = ("at", "verb", "outcome", "actor_kind", "actor_id", "target_kind", "target_id", "tenant_id")
    list_filter = ("outcome", "actor_kind")
    search_fields = ("=verb",)
    search_help_text = _("A verb, or the id of an actor, a target, a tenant or an environment.")
    fields = readonly_fields = (
        "id", "at", "environment_id", "tenant_id", "actor_kind", "actor_id", "on_behalf_of", "verb", "outcome",
        "reason", "target_kind", "target_id", "before", "after", "ip", "request_id",
    )  # fmt: skip

    def get_search_results(self, request, queryset, search_term):
        try:
            sought = UUID(search_term.strip())
        except ValueError:
            return super().get_search_results(request, queryset, search_term)
        names = ("actor_id", "target_id", "tenant_id", "environment_id", "on_behalf_of")
        return queryset.filter(Q(*[(name, sought) for name in names], _connector=Q.OR)), False


class RescueUserAdmin(UserAdmin):
    """A person can be locked out and let in, renamed, and given a password; nothing else, and nobody is made here."""

    form = ModelForm
    paginator = Capped
    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = None
    list_display = ("email", "name", "is_active", "is_staff", "is_superuser", "created_at")
    list_filter = ("is_active", "is_staff", "is_superuser")
    search_fields = ("=email", "^name")
    ordering = ("-id",)
    filter_horizontal = ()
    readonly_fields = (
        "id", "email", "set_password", "is_superuser", "voucher_id", "voucher_user_id", "last_login", "created_at",
        "erased_at",
    )  # fmt: skip
    fieldsets = (
        (None, {"fields": ("id", "email", "name", "set_password")}),
        (_("Access"), {"fields": ("is_active", "is_staff", "is_superuser")}),
        (_("Where from"), {"fields": ("voucher_id", "voucher_user_id", "last_login", "created_at", "erased_at")}),
    )

    def has_add_permission(self, request):
        return False

    def has_delete_permission(self, request, obj=None):
        return False

    def has_change_permission(self, request, obj=None):
        """Nobody can be made of one who was erased."""
        return super().has_change_permission(request, obj) and (obj is None or obj.erased_at is None)

    @admin.display(description=_("Password"))
    def set_password(self, user: User) -> str:
        if user.voucher_id is not None or user.erased_at is not None:
            return "-"
        return format_html('<a href="{}">{}</a>', reverse("admin:auth_user_password_change", args=[user.pk]), _("Set"))

    def save_model(self, request, obj, form, change):
        """A lock-out kills the JWTs of the person's tokens for good, as every other suspension does (R5)."""
        super().save_model(request, obj, form, change)
        if "is_active" in form.changed_data and not obj.is_active:
            for held in (obj.memberships, obj.vendor_memberships):
                held.update(generation=F("generation") + 1)
        # A person's name is kept beside the record, never in it.
        kept = [name for name in form.changed_data if name != "name"]
        before, after = ({name: source[name] for name in kept} for source in (form.initial, form.cleaned_data))
        if "name" in form.changed_data:
            before["name"], after["name"] = "", "changed"
        if after:
            _record_changed(request, obj, before, after)

    def user_change_password(self, request, id, form_url=""):  # noqa: A002 -- as Django names it
        """A vouched identity has no password here (R12)."""
        user = self.get_object(request, id)
        if user is not None and user.voucher_id is not None:
            raise PermissionDenied
        with transaction.atomic():
            answer = super().user_change_password(request, id, form_url)
            if user is not None and request.method == "POST" and answer.status_code == 302:
                usable = User.objects.get(pk=user.pk).has_usable_password()
                _record_changed(request, user, {}, {"password": "set" if usable else "switched off"})
            return answer

    def log_change(self, request, obj, message):
        """The record is ours alone; Django's own would keep names where no erasure reaches them."""


def _record_changed(request, user: User, before: dict[str, object], after: dict[str, object]) -> None:
    record(
        actor=user_actor(request.user, request),
        verb="admin.changed",
        target_kind="user",
        target_id=user.pk,
        environment_id=None,
        tenant_id=None,
        before=before,
        after=after,
    )


def _one_by_one(model_admin: admin.ModelAdmin, request: HttpRequest, rows, act: Callable[[Any], object]) -> None:
    """Each by the service that pages use; what it refuses is said, and the others go on."""
    done = 0
    for row in rows.order_by("pk")[:AT_ONCE]:
        try:
            act(row)
            done += 1
        except Refusal as refusal:
            model_admin.message_user(request, f"{row}: {refusal}", messages.ERROR)
    model_admin.message_user(request, _("Done: %d.") % done)


class MembershipAdmin(ReadOnly):
    list_display = ("id", "user", "tenant", "environment", "suspended_at", "ended_at")
    list_select_related = ("user", "tenant", "environment")
    search_fields = ("=user__email", "=tenant__slug")
    actions = ("suspend", "reinstate")
    fields = readonly_fields = (
        "id", "user", "tenant", "environment", "roles", "generation", "suspended_at", "ended_at", "created_at",
    )  # fmt: skip

    @admin.action(description=_("Suspend"))
    def suspend(self, request, queryset):
        self._each(request, queryset, members.suspend)

    @admin.action(description=_("Reinstate"))
    def reinstate(self, request, queryset):
        self._each(request, queryset, members.reinstate)

    def _each(self, request, queryset, service: Callable[..., Membership]) -> None:
        rows = queryset.select_related("tenant", "environment", "user")
        _one_by_one(
            self,
            request,
            rows,
            lambda row: service(by=_by(request, row.environment), membership=row, at=timezone.now()),
        )


class VendorMembershipAdmin(ReadOnly):
    list_display = ("id", "user", "vendor", "role", "suspended_at", "ended_at")
    list_select_related = ("user", "vendor")
    search_fields = ("=user__email", "=vendor__slug")
    actions = ("suspend", "reinstate")
    fields = readonly_fields = (
        "id", "user", "vendor", "role", "in_all_environments", "environments", "generation", "suspended_at",
        "ended_at", "created_at",
    )  # fmt: skip

    @admin.action(description=_("Suspend"))
    def suspend(self, request, queryset):
        self._each(request, queryset, vendor_members.suspend)

    @admin.action(description=_("Reinstate"))
    def reinstate(self, request, queryset):
        self._each(request, queryset, vendor_members.reinstate)

    def _each(self, request, queryset, service: Callable[..., VendorMembership]) -> None:
        def act(row: VendorMembership) -> None:
            environment = Environment.objects.filter(vendor=row.vendor_id).select_related("vendor").order_by("pk")[0]
            service(by=_by(request, environment), member=row, at=timezone.now())

        _one_by_one(self, request, queryset.select_related("vendor", "user"), act)


def _by(request, environment: Environment) -> Principal:
    """The operator needs nobody's leave, but is named."""
    return system(environment, actor=user_actor(request.user, request))


site = RescueSite()
site.register(User, RescueUserAdmin)
site.register(Membership, MembershipAdmin)
site.register(VendorMembership, VendorMembershipAdmin)
site.register(Environment, EnvironmentAdmin)
site.register(Tenant, TenantAdmin)
site.register(Role, RoleAdmin)
site.register(TokenType, TokenTypeAdmin)
site.register(ApiToken, ApiTokenAdmin)
site.register(AuditEvent, AuditEventAdmin)
