from django.urls import path

from apitokens.pages import views

app_name = "portal"
urlpatterns = [
    path("", views.home, name="home"),
    path("t/<slug:slug>/tokens/", views.tokens, name="tokens"),
    path("t/<slug:slug>/tokens/new/", views.token_new, name="token-new"),
    path("t/<slug:slug>/tokens/<str:token_id>/", views.token, name="token"),
    path("t/<slug:slug>/tokens/<str:token_id>/edit/", views.token_edit, name="token-edit"),
    path("t/<slug:slug>/tokens/<str:token_id>/disable/", views.token_disable, name="token-disable"),
    path("t/<slug:slug>/tokens/<str:token_id>/enable/", views.token_enable, name="token-enable"),
    path("t/<slug:slug>/tokens/<str:token_id>/delete/", views.token_delete, name="token-delete"),
    path("t/<slug:slug>/tokens/<str:token_id>/new-secret/", views.token_new_secret, name="token-new-secret"),
    path("t/<slug:slug>/audit/", views.audit, name="audit"),
]
