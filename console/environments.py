"""The environment itself: its settings, its end, another like it, and what it takes over from another."""

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from apitokens import access, keyring
from apitokens.changing import version_of
from apitokens.governance import copying, environments
from apitokens.models import SigningKey
from apitokens.pages.places import PageRequest
from apitokens.pages.words import at_moment, in_words
from apitokens.principals import ConsolePrincipal
from audit.services import Refusal
from console.confirming import UNPROCESSABLE, Question, ask
from console.differences import groups
from console.doors import console_page
from console.forms import CopyForm, NewEnvironmentForm, SettingsForm
from console.token_type_forms import NEVER
from tenants.models import Environment, VendorMembership

FORM = ["GET", "HEAD", "POST"]
HOURS_HELD = int(environments.HELD_FOR.total_seconds() // 3600)


@require_http_methods(FORM)
def settings(request: PageRequest, principal: ConsolePrincipal) -> HttpResponse:
    environment = principal.environment
    state = environments.snapshot(environment)
    initial = {
        **state,
        "api_identifiers": "\n".join(environments.identifiers_of(environment)),
        "reauthenticate_after": environment.reauthenticate_after or NEVER,
        "embedding_origins": "\n".join(environment.embedding_origins),
    }
    data = request.POST if request.method == "POST" else None
    form = SettingsForm(data, initial=initial, environment=environment, version=version_of(state))
    if form.is_valid():
        try:
            environments.edit(by=principal, environment=environment, at=timezone.now(), **form.change())
        except Refusal as refusal:
            if not _is_for_form(refusal):
                raise
            form.add_refusal(refusal)
        else:
            messages.success(request, _("The settings were saved."))
            return redirect(request.place.url("settings"))
    role = environments.default_role_of(environment)
    active = keyring.ring(environment).filter(state=SigningKey.State.ACTIVE).first()
    context = {
        "signs_with": active.algorithm if active else "",
        "form": form,
        "environment": environment,
        "identifiers": state["api_identifiers"],
        "asked_after": in_words(environment.reauthenticate_after) if environment.reauthenticate_after else "",
        "default_role": role,
        "default_client_is_barred": role and environments.default_client_type(environment, role) is None,
        "is_owner": principal.vendor_membership.role == VendorMembership.Role.OWNER,
        "can_be_restored": environments.can_be_restored(environment, timezone.now()),
        "restorable_until": _until(environment),
    }
    status = UNPROCESSABLE if form.errors else 200
    return render(request, "console/environments/settings.html", context, status=status)


@require_http_methods(FORM)
def environment_new(request: PageRequest, principal: ConsolePrincipal) -> HttpResponse:
    if request.method != "POST":
        access.require(principal, "environments:create")
        environments.check_owner(principal)
    vendor = principal.environment.vendor
    form = NewEnvironmentForm(
        request.POST if request.method == "POST" else None,
        initial={"slug": f"{vendor.slug}-", "colour": Environment.Colour.BLUE},
    )
    if form.is_valid():
        try:
            made = environments.create(by=principal, at=timezone.now(), **form.cleaned_data)
        except Refusal as refusal:
            if not _is_for_form(refusal):
                raise
            form.add_refusal(refusal)
        else:
            messages.success(request, _("The environment was made. You are in it now."))
            return redirect(reverse("console:overview", args=[made.slug]))
    status = UNPROCESSABLE if form.errors else 200
    return render(request, "console/environments/new.html", {"form": form, "vendor": vendor}, status=status)


@require_http_methods(FORM)
def environment_copy(request: PageRequest, principal: ConsolePrincipal) -> HttpResponse:
    """Choose, look at the differences, and copy those that were looked at."""
    target = principal.environment
    if request.method != "POST":
        access.require(principal, "environments:create")
    sources = {row.slug: row for row in _sources(request, principal)}
    chosen = request.POST.get("source") or request.GET.get("from")
    if chosen and chosen not in sources:
        raise Http404
    diff = copying.compare(sources[chosen], target) if chosen else None
    form = CopyForm(
        request.POST if request.method == "POST" else None,
        initial={"source": chosen},
        version=diff.version if diff else "",
        sources=sources.values(),
    )
    if diff and form.is_valid():
        try:
            copying.copy(
                by=principal, source=diff.source, at=timezone.now(), expected=form.cleaned_data["version"] or ""
            )
        except Refusal as refusal:
            if not _is_for_form(refusal):
                raise
            form.add_refusal(refusal)
        else:
            messages.success(request, _("The configuration of %(name)s was copied.") % {"name": diff.source.name})
            return redirect(request.place.url("overview"))
    context = {
        "form": form,
        "sources": list(sources.values()),
        "diff": diff,
        "groups": groups(diff) if diff else [],
        "environment": target,
    }
    status = UNPROCESSABLE if form.errors else 200
    return render(request, "console/environments/copy.html", context, status=status)


@require_http_methods(FORM)
def environment_suspend(request: PageRequest, principal: ConsolePrincipal) -> HttpResponse:
    environment = principal.environment
    question = Question(
        permission="environments:delete",
        heading=_("Suspend “%(name)s”?") % {"name": environment.name},
        points=[
            _("Every token of the environment stops at once, in all of its tenants, and so do the portals."),
            _("JWTs issued until now stay dead at our API, also after it is reinstated. Keys and metadata are served."),
            _("The console stays open, so that you can reinstate it. Nothing is lost."),
        ],
        submit_label=_("Suspend the environment"),
        back_url=request.place.url("settings"),
        back_label=_("Settings"),
        done=_("The environment is suspended. Nothing works in it now."),
        done_url=request.place.url("settings"),
    )
    return ask(
        request,
        principal,
        question,
        lambda _name: environments.suspend(by=principal, environment=environment, at=timezone.now()),
    )


@require_http_methods(["POST"])
def environment_reinstate(request: PageRequest, principal: ConsolePrincipal) -> HttpResponse:
    environments.reinstate(by=principal, environment=principal.environment, at=timezone.now())
    messages.success(request, _("The environment works again. JWTs issued before it was suspended stay dead."))
    return redirect(request.place.url("settings"))


@require_http_methods(FORM)
def environment_delete(request: PageRequest, principal: ConsolePrincipal) -> HttpResponse:
    environment = principal.environment
    if request.method != "POST":
        access.require(principal, "environments:delete")
        environments.check_owner(principal)
    question = Question(
        permission="environments:delete",
        heading=_("Delete “%(name)s”?") % {"name": environment.name},
        warning=_("After %(hours)s hours this cannot be undone.") % {"hours": HOURS_HELD},
        points=[
            _("Everything in it stops at once: tenants, portals, tokens, keys and metadata."),
            _("For %(hours)s hours an owner can restore it. Then it is erased, with all that it holds.")
            % {"hours": HOURS_HELD},
            _("Its address is never used again. The record of what was done in it stays."),
        ],
        submit_label=_("Delete the environment"),
        back_url=request.place.url("settings"),
        back_label=_("Settings"),
        done=_("The environment is deleted. It can be restored for %(hours)s hours.") % {"hours": HOURS_HELD},
        done_url=request.place.url("settings"),
        typed=environment.name,
        instead=None
        if environment.suspended_at
        else (
            _("Suspend it instead: it stops just as soon, and nothing is erased."),
            _("Suspend…"),
            request.place.url("environment-suspend"),
        ),
    )
    return ask(
        request,
        principal,
        question,
        lambda name: environments.delete(by=principal, environment=environment, typed_name=name, at=timezone.now()),
    )


@require_http_methods(["POST"])
def environment_restore(request: PageRequest, principal: ConsolePrincipal) -> HttpResponse:
    environments.restore(by=principal, environment=principal.environment, at=timezone.now())
    messages.success(request, _("The environment is restored. JWTs issued before it was deleted stay dead."))
    return redirect(request.place.url("settings"))


def _is_for_form(refusal: Refusal) -> bool:
    """What the person can mend where they are; anything else is a page of its own."""
    return bool(refusal.field) or refusal.code == "stale"


def _sources(request: PageRequest, principal: ConsolePrincipal) -> list[Environment]:
    """Other environments of this vendor that the person covers."""
    covered = access.environments_of(request.user).filter(
        vendor=principal.environment.vendor_id, deleted_at__isnull=True
    )
    return list(covered.exclude(pk=principal.environment.pk).order_by("name", "slug")[:100])


def _until(environment: Environment) -> str:
    return at_moment(environment.deleted_at + environments.HELD_FOR) if environment.deleted_at else ""


_to_environment = console_page("environments:read")
urlpatterns = [
    path("settings/", _to_environment(settings), name="settings"),
    path("settings/suspend/", _to_environment(environment_suspend), name="environment-suspend"),
    path("settings/reinstate/", _to_environment(environment_reinstate), name="environment-reinstate"),
    path("settings/delete/", _to_environment(environment_delete), name="environment-delete"),
    path("settings/restore/", _to_environment(environment_restore), name="environment-restore"),
    path("settings/copy/", _to_environment(environment_copy), name="environment-copy"),
    path("settings/environments/new/", _to_environment(environment_new), name="environment-new"),
]
