"""Roles and permissions on pages: a change that takes something is shown first, and nothing typed is lost."""

import re
from html import unescape
from uuid import uuid4

import pytest

from apitokens.models import ApiToken
from apitokens.setup import give_role, hold
from tenants.models import Permission, Role, RolePermission
from tests.factories import RoleFactory


def fields(html):
    """What a browser would send of the page's form, as it is."""
    sent = {}
    for tag in re.findall(r"<input[^>]*>", html):
        attributes = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        if "name" not in attributes or (attributes.get("type") == "checkbox" and " checked" not in tag):
            continue
        sent.setdefault(attributes["name"], []).append(unescape(attributes.get("value", "")))
    sent.pop("permission", None)
    return sent


def keys(role):
    return set(RolePermission.objects.filter(role=role).values_list("permission__key", flat=True))


@pytest.fixture
def clerk(acme):
    role = RoleFactory(environment=acme.environment, tenant=acme.tenant, key="own:clerk", name="Clerk", level=15)
    hold(role, ["reports:read", "reports:write"])
    return role


def url(house, more=""):
    return f"/t/{house.tenant.slug}/roles/{more}"


def test_a_tenants_admin_makes_a_role_of_what_they_have(acme):
    browser = acme.browser("admin")
    form = fields(browser.get(url(acme, "new/")).content.decode())
    refused = browser.post(url(acme, "new/"), {**form, "name": "Clerk", "level": "31", "permissions": ["reports:read"]})
    assert refused.status_code == 422
    assert 'value="Clerk"' in refused.content.decode()
    made = browser.post(url(acme, "new/"), {**form, "name": "Clerk", "level": "12", "permissions": ["reports:read"]})
    role = Role.objects.get(tenant=acme.tenant)
    assert (made.status_code, made["Location"]) == (302, url(acme, f"{role.id}/"))
    assert (role.key, role.level, keys(role)) == ("own:clerk", 12, {"reports:read"})


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        pytest.param({"level": "31", "permissions": ["reports:read"]}, "level", id="above"),
        pytest.param({"level": "3", "permissions": ["billing:manage"]}, "permissions", id="not-held"),
        pytest.param({"level": "3", "built_in": ["audit:read"]}, "built_in", id="built-in-not-held"),
        pytest.param({"level": "3", "name": "会計", "permissions": ["reports:read"]}, "key", id="no-key-from-it"),
    ],
)
def test_a_role_that_is_refused_is_so_at_the_field_that_is_to_blame(acme, sent, field):
    acme.role("admin").role_permissions.filter(permission__key="audit:read").delete()
    browser = acme.browser("admin")
    form = {**fields(browser.get(url(acme, "new/")).content.decode()), "name": "Clerk"}
    answer = browser.post(url(acme, "new/"), {**form, **sent})
    assert answer.status_code == 422
    assert list(answer.context["form"].errors) == [field]
    if field == "key":
        assert "Give it a key: none can be made from this name." in answer.content.decode()


def test_an_edit_that_takes_from_a_token_is_shown_first_and_saved_from_there(acme, clerk):
    token = acme.issue("admin", name="Nightly", roles=["own:clerk"]).token
    browser, path = acme.browser("admin"), url(acme, f"{clerk.id}/edit/")
    form = fields(browser.get(path).content.decode())
    form["permissions"] = ["reports:read"]
    review = browser.post(path, form)
    page = review.content.decode()
    assert (review.status_code, keys(clerk)) == (200, {"reports:read", "reports:write"})
    assert "1 token would lose permissions" in page
    assert token.name in page
    assert "reports:write" in page
    again = fields(page)
    back = browser.post(path, {**again, "step": "edit"})
    assert fields(back.content.decode())["permissions"] == ["reports:read"]
    assert browser.post(path, {**again, "step": "save"}).status_code == 302
    assert keys(clerk) == {"reports:read"}


def test_an_edit_that_takes_nothing_is_saved_at_once(acme, clerk):
    browser, path = acme.browser("admin"), url(acme, f"{clerk.id}/edit/")
    form = fields(browser.get(path).content.decode())
    assert browser.post(path, {**form, "name": "Accounts"}).status_code == 302
    assert Role.objects.get(pk=clerk.pk).name == "Accounts"
    assert keys(clerk) == {"reports:read", "reports:write"}


def test_who_comes_second_is_told_and_keeps_what_they_typed(acme, clerk):
    browser, path = acme.browser("admin"), url(acme, f"{clerk.id}/edit/")
    form = fields(browser.get(path).content.decode())
    acme.api("owner", "PATCH", f"roles/{clerk.id}?tenant={acme.tenant.id}", {"level": 3})
    stale = browser.post(path, {**form, "name": "Mine"})
    page = stale.content.decode()
    assert stale.status_code == 422
    assert "Somebody has changed this since you opened it" in page
    assert 'value="Mine"' in page
    assert browser.post(path, fields(page)).status_code == 302


def test_a_role_in_use_is_deleted_after_saying_what_takes_its_place(acme, clerk):
    acme.issue("admin", name="Nightly", roles=["own:clerk"])
    give_role(acme.people["viewer"], clerk)
    browser, path = acme.browser("admin"), url(acme, f"{clerk.id}/delete/")
    page = browser.get(path).content.decode()
    assert "It is in use by 1 member, 1 token." in page
    form = fields(page)
    assert browser.post(path, form).status_code == 422
    for bogus in ("nonsense", str(uuid4())):
        unknown = browser.post(path, {**form, "instead": bogus})
        assert unknown.status_code == 422
        assert "This role is not there any more: choose another one." in unknown.content.decode()
    review = browser.post(path, {**form, "instead": "none"})
    assert "Stops working" in review.content.decode()
    assert browser.post(path, {**fields(review.content.decode()), "step": "save"}).status_code == 302
    assert not Role.objects.filter(pk=clerk.pk).exists()


def test_a_replacement_that_takes_nothing_is_done_at_once(acme, clerk):
    acme.issue("admin", name="Nightly", roles=["own:clerk"])
    browser, path = acme.browser("admin"), url(acme, f"{clerk.id}/delete/")
    form = fields(browser.get(path).content.decode())
    assert browser.post(path, {**form, "instead": str(acme.role("member").id)}).status_code == 302
    assert [role.key for role in ApiToken.objects.get().roles.all()] == ["member"]


@pytest.mark.parametrize(("person", "tab", "edits"), [("viewer", 403, 403), ("admin", 200, 200)])
def test_without_the_permission_there_are_no_roles_to_see(acme, clerk, person, tab, edits):
    browser = acme.browser(person)
    assert browser.get(url(acme)).status_code == tab
    assert browser.get(url(acme, f"{clerk.id}/edit/")).status_code == edits
    home = browser.get(acme.url()).content.decode()
    assert (url(acme) in home) == (tab == 200)


def test_the_vendors_roles_are_read_only_in_a_tenant(acme):
    page = acme.browser("owner").get(url(acme, f"{acme.role('viewer').id}/")).content.decode()
    assert "It is the vendor&#x27;s, the same for all tenants." in page
    assert "/edit/" not in page
    assert "/delete/" not in page


# --- the matrix ---


@pytest.fixture
def matrix(world, office):
    """A browser of the vendor's admin, and what the matrix sends as it is; with which column and row is what."""
    browser = office.browser("admin")
    path = office.url(world.production, "roles/")
    form = fields(browser.get(path).content.decode())
    shown = form["shown"][0].split(" ")
    roles = {Role.objects.get(pk=form[f"r{number}"][0]).key: number for number in range(5)}
    return browser, path, form, shown, roles


def test_the_matrix_shows_what_is_and_sent_as_it_is_changes_nothing(world, matrix):
    browser, path, form, shown, roles = matrix
    for key, number in roles.items():
        role = Role.objects.get(environment=world.production, key=key)
        assert {shown[int(index)] for index in form.get(f"p{number}", [])} == keys(role)
        assert form[f"l{number}"] == [str(role.level)]
    answer = browser.post(path, form)
    assert answer.status_code == 422
    assert "Nothing was changed: tick or untick something first." in answer.content.decode()


def test_many_are_changed_at_once_after_a_review(world, acme, matrix):
    acme.issue("admin", name="Nightly", roles=["member"])
    browser, path, form, shown, roles = matrix
    viewer, member = roles["viewer"], roles["member"]
    write = str(shown.index("reports:write"))
    form[f"p{viewer}"].append(write)
    form[f"p{member}"].remove(write)
    form[f"l{member}"] = ["25"]
    review = browser.post(path, form).content.decode()
    assert "Change Viewer, Member?" in review
    assert "1 token would lose permissions" in review
    assert "Nightly" in review
    assert "Viewer gets <code>reports:write</code>" in review
    assert "Acme ·" in review
    assert "acme-production" not in review.split("</h1>")[1]
    assert "JWTs issued before still carry the old permissions until they expire." in review
    assert "reports:write" not in keys(acme.role("viewer"))
    assert browser.post(path, {**fields(review), "step": "save"}).status_code == 302
    assert "reports:write" in keys(acme.role("viewer"))
    assert ("reports:write" in keys(acme.role("member")), acme.role("member").level) == (False, 25)


def test_of_two_at_the_matrix_the_second_is_told_which_role_and_loses_nothing(world, acme, office, matrix):
    browser, path, form, _, roles = matrix
    viewer = acme.role("viewer")
    office.api("owner", "PATCH", f"roles/{viewer.id}", {"level": 12}, environment=world.production)
    form[f"l{roles['viewer']}"] = ["14"]
    stale = browser.post(path, {**form, "step": "save"})
    page = stale.content.decode()
    assert stale.status_code == 422
    assert "Viewer: Changed by somebody else since you opened it" in page
    assert fields(page)[f"l{roles['viewer']}"] == ["14"]
    assert acme.role("viewer").level == 12
    assert browser.post(path, {**fields(page), "step": "save"}).status_code == 302
    assert acme.role("viewer").level == 14


def test_another_roles_edit_meanwhile_is_not_undone_by_who_did_not_touch_it(world, acme, office, matrix):
    browser, path, form, _, roles = matrix
    office.api("owner", "PATCH", f"roles/{acme.role('admin').id}", {"level": 33}, environment=world.production)
    form[f"l{roles['viewer']}"] = ["14"]
    assert browser.post(path, {**form, "step": "save"}).status_code == 302
    assert (acme.role("viewer").level, acme.role("admin").level) == (14, 33)


@pytest.mark.parametrize("gone", ["role", "permission"])
def test_what_was_deleted_meanwhile_takes_no_other_tick_with_it(world, acme, matrix, gone):
    browser, path, form, shown, roles = matrix
    write = str(shown.index("reports:write"))
    form[f"p{roles['viewer']}"].append(write)
    form[f"p{roles['admin']}"].remove(write)
    if gone == "role":
        acme.people["member"].membership_roles.all().delete()
        acme.role("member").delete()
    else:
        Permission.objects.get(environment=world.production, key="billing:manage").delete()
    answer = browser.post(path, {**form, "step": "save"})
    page = answer.content.decode()
    assert answer.status_code == 422
    assert "A role or a permission was deleted since you opened this page." in page
    assert "reports:write" not in keys(acme.role("viewer"))
    assert browser.post(path, {**fields(page), "step": "save"}).status_code == 302
    assert "reports:write" in keys(acme.role("viewer"))
    assert "reports:write" not in keys(acme.role("admin"))
    assert "reports:write" in keys(acme.role("owner"))


@pytest.mark.parametrize("level", ["x", "-1", "99999", ""])
def test_a_level_that_is_none_is_named_with_its_role(acme, matrix, level):
    browser, path, form, _, roles = matrix
    form[f"l{roles['viewer']}"], form[f"l{roles['member']}"] = [level], ["21"]
    answer = browser.post(path, {**form, "step": "save"})
    assert answer.status_code == 422
    page = answer.content.decode()
    assert "Viewer: A level is a whole number from 0 to 32,767" in page
    number = roles["viewer"]
    assert re.findall(r'<input class="matrix-level"[^>]*name="(l\d)"[^>]*aria-invalid="true"', page) == [f"l{number}"]
    assert f'id="level-error-{number}">A level is a whole number' in page
    assert acme.role("member").level == 20


def test_what_a_role_holds_beyond_the_part_that_is_shown_stays(world, acme, office):
    """More permissions and roles than a part has."""
    many = [Permission(environment=world.production, key=f"thing:{number:03}") for number in range(100)]
    Permission.objects.bulk_create(many)
    for number in range(6):
        RoleFactory(environment=world.production, key=f"extra-{number}", level=2000 + number)
    hold(acme.role("viewer"), [permission.key for permission in many])
    browser = office.browser("admin")
    for part in ("", "?columns=0&rows=1", "?columns=1&rows=0"):
        path = office.url(world.production, f"roles/{part}")
        page = browser.get(path)
        form = fields(page.content.decode())
        assert sum(len(values) for values in form.values()) < 500
        form["l0"] = ["1"]
        held = keys(Role.objects.get(pk=form["r0"][0]))
        assert browser.post(path, {**form, "step": "save"}).status_code == 302
        role = Role.objects.get(pk=form["r0"][0])
        assert (role.level, keys(role)) == (1, held)
        Role.objects.filter(pk=role.pk).update(level=10 if role.key == "viewer" else 2000)


def test_an_auditor_sees_the_matrix_and_can_change_nothing(world, office):
    page = office.page("auditor", world.production, "roles/").content.decode()
    assert "Review changes" not in page
    boxes = re.findall(r'<input type="checkbox"[^>]*>', page)
    assert boxes
    assert all("disabled" in box for box in boxes)


# --- permissions ---


def test_a_permission_is_made_described_and_deleted_in_the_console(world, acme, office):
    made = office.post("admin", world.production, "permissions/new/", key="invoices:send", for_tenant_tokens="on")
    assert made.status_code == 302
    permission = Permission.objects.get(key="invoices:send")
    assert (permission.for_tenant_tokens, permission.for_personal_tokens) == (True, False)
    path = f"permissions/{permission.id}/edit/"
    assert office.post("admin", world.production, path, description="Send", for_tenant_tokens="on").status_code == 302
    taken = office.post("admin", world.production, "permissions/new/", key="invoices:send", description="Kept")
    assert taken.status_code == 422
    assert "There is a permission of this key already" in taken.content.decode()
    assert 'value="Kept"' in taken.content.decode()
    assert office.post("admin", world.production, f"permissions/{permission.id}/delete/").status_code == 302
    assert not Permission.objects.filter(pk=permission.pk).exists()


def test_a_permission_in_use_is_deleted_after_saying_what_takes_its_place(world, acme, office):
    acme.issue("admin", name="Nightly", permissions=["reports:read"])
    reports = Permission.objects.get(environment=world.production, key="reports:read")
    path = f"permissions/{reports.id}/delete/"
    assert "It is in use by 5 roles, 1 token." in office.page("admin", world.production, path).content.decode()
    assert office.post("admin", world.production, path).status_code == 422
    for bogus in ("nonsense", str(uuid4())):
        unknown = office.post("admin", world.production, path, instead=bogus)
        assert unknown.status_code == 422
        assert "This permission is not there any more: choose another one." in unknown.content.decode()
    review = office.post("admin", world.production, path, instead="none")
    assert "Nightly" in review.content.decode()
    assert Permission.objects.filter(pk=reports.pk).exists()
    assert office.post("admin", world.production, path, instead="none", step="save").status_code == 302
    assert not Permission.objects.filter(pk=reports.pk).exists()
