from django.urls import path

from apitokens.pages import tokens, views
from apitokens.pages.doors import tenant_page

app_name = "portal"
_to_tokens = tenant_page("apitokens:read")

urlpatterns = [
    path("", views.home, name="home"),
    path("t/<slug:slug>/tokens/", _to_tokens(tokens.tokens), name="tokens"),
    path("t/<slug:slug>/tokens/new/", _to_tokens(tokens.token_new), name="token-new"),
    path("t/<slug:slug>/tokens/<str:token_id>/", _to_tokens(tokens.token), name="token"),
    path("t/<slug:slug>/tokens/<str:token_id>/edit/", _to_tokens(tokens.token_edit), name="token-edit"),
    path("t/<slug:slug>/tokens/<str:token_id>/disable/", _to_tokens(tokens.token_disable), name="token-disable"),
    path("t/<slug:slug>/tokens/<str:token_id>/enable/", _to_tokens(tokens.token_enable), name="token-enable"),
    path("t/<slug:slug>/tokens/<str:token_id>/end-jwts/", _to_tokens(tokens.token_end_jwts), name="token-end-jwts"),
    path("t/<slug:slug>/tokens/<str:token_id>/delete/", _to_tokens(tokens.token_delete), name="token-delete"),
    path(
        "t/<slug:slug>/tokens/<str:token_id>/new-secret/", _to_tokens(tokens.token_new_secret), name="token-new-secret"
    ),
    path("t/<slug:slug>/audit/", tenant_page("audit:read")(views.audit), name="audit"),
]
