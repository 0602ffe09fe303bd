from django.urls import path

from apitokens.api import views

app_name = "api"
urlpatterns = [
    path("token/self", views.TokenSelf.as_view(), name="token-self"),
    path("tokens", views.Tokens.as_view(), name="tokens"),
    path("tokens/<str:token_id>", views.Token.as_view(), name="token"),
    path("tokens/<str:token_id>/disable", views.TokenDisable.as_view(), name="token-disable"),
    path("tokens/<str:token_id>/enable", views.TokenEnable.as_view(), name="token-enable"),
    path("tokens/<str:token_id>/secret", views.TokenSecret.as_view(), name="token-secret"),
]
