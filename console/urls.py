"""`/console/<environment>/…`: each module of views lists its own addresses."""

from django.urls import include, path
from django.views.generic import RedirectView

from console import (
    audit,
    brand,
    environments,
    keys,
    overview,
    people,
    permissions,
    roles,
    sso,
    tenants,
    token_types,
    tokens,
    usage,
)

app_name = "console"

_in_environment: list = [
    *roles.urlpatterns,
    *permissions.urlpatterns,
    *overview.urlpatterns,
    *tenants.urlpatterns,
    *sso.urlpatterns,
    *keys.urlpatterns,
    *environments.urlpatterns,
    *brand.urlpatterns,
    *usage.urlpatterns,
    *audit.urlpatterns,
    *people.urlpatterns,
    *token_types.urlpatterns,
    *tokens.urlpatterns,
]

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="portal:home"), name="home"),
    path("<slug:slug>/", include(_in_environment)),
]
