"""A tenant's single sign-on, for the vendor's people: the portal's own pages, under the console's addresses."""

from django.urls import path

from apitokens.pages import sso
from console.doors import console_page

_to_tenants = console_page("tenants:read")

urlpatterns = [
    path("tenants/<uuid:tenant_id>/sso/", _to_tenants(sso.single_sign_on), name="tenant-sso"),
    path("tenants/<uuid:tenant_id>/sso/edit/", _to_tenants(sso.edit), name="tenant-sso-edit"),
    path("tenants/<uuid:tenant_id>/sso/enforce/", _to_tenants(sso.enforce), name="tenant-sso-enforce"),
    path("tenants/<uuid:tenant_id>/sso/remove/", _to_tenants(sso.remove), name="tenant-sso-remove"),
    path("tenants/<uuid:tenant_id>/sso/try/", _to_tenants(sso.try_out), name="tenant-sso-try"),
    path(
        "tenants/<uuid:tenant_id>/sso/<uuid:removed_id>/readmit/",
        _to_tenants(sso.readmit),
        name="tenant-sso-readmit",
    ),
]
