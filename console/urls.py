"""`/console/<environment>/…`: each module of views lists its own addresses."""

from django.urls import include, path

app_name = "console"

_in_environment: list = []

urlpatterns = [path("<slug:slug>/", include(_in_environment))]
