from django.conf import settings
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView

from apitokens.api.reference import reference
from apitokens.oauth import documents
from apitokens.oauth.introspection import introspect
from apitokens.oauth.revocation import revoke
from apitokens.oauth.statuses import status_list
from apitokens.oauth.token import token
from apitokens.pages import appearance
from config import health

urlpatterns = [
    path("", include("apitokens.pages.urls")),
    path("console/", include("console.urls")),
    path("theme/", appearance.theme, name="theme"),
    path("language/", appearance.language, name="language"),
    path("", include("accounts.urls")),
    path("oauth2/token", token, name="oauth-token"),
    path("oauth2/introspect", introspect, name="oauth-introspect"),
    path("oauth2/revoke", revoke, name="oauth-revoke"),
    path("e/<slug:environment>/jwks.json", documents.jwks, name="jwks"),
    path("e/<slug:environment>/status/<int:number>", status_list, name="status-list"),
    path("e/<slug:environment>/logo/<str:digest>", appearance.logo, name="brand-logo"),
    path("e/<slug:environment>/brand/<str:digest>.css", appearance.stylesheet, name="brand-stylesheet"),
    # Inserted, as RFC 8414 section 3.1 has it, and appended, as OpenID Connect Discovery has it.
    path(".well-known/oauth-authorization-server/e/<slug:environment>", documents.metadata, name="metadata"),
    path("e/<slug:environment>/.well-known/oauth-authorization-server", documents.metadata),
    path(".well-known/openid-configuration/e/<slug:environment>", documents.openid),
    path("e/<slug:environment>/.well-known/openid-configuration", documents.openid, name="openid-configuration"),
    path("api/v1/", include("apitokens.api.urls")),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", reference, name="api-docs"),
    path("healthz", health.alive),
    path("readyz", health.ready),
    path("metrics", health.metrics),
]

if settings.ADMIN:
    from config import rescue

    urlpatterns += [path("admin/", rescue.site.urls)]

if settings.DEBUG:
    from config import styleguide

    urlpatterns += [path("styleguide/", styleguide.styleguide, name="styleguide")]

handler400 = "config.errors.bad_request"
handler403 = "config.errors.permission_denied"
handler404 = "config.errors.not_found"
handler500 = "config.errors.server_error"
