"""What is there below `/embedded/<environment>/`: one tenant's pages, and nothing of an account or of a console."""

from django.urls import include, path

from apitokens.pages import appearance, embedded
from apitokens.pages.urls import urlpatterns as of_portal

of_tenant = [each for each in of_portal if str(each.pattern).startswith("t/")]

urlpatterns = [
    path("open/<str:key>/", embedded.open_link, name="portal-link"),
    path("", include(([path("", embedded.home, name="home"), *of_tenant], "portal"))),
    path("theme/", appearance.theme, name="theme"),
    path("language/", appearance.language, name="language"),
]

handler400 = "config.errors.bad_request"
handler403 = "config.errors.permission_denied"
handler404 = "config.errors.not_found"
handler500 = "config.errors.server_error"
