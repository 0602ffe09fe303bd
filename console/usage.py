"""How often the tokens of a whole environment are used."""

from django.urls import path

from apitokens.pages import usage
from console.doors import console_page

urlpatterns = [path("usage/", console_page("usage:read")(usage.usage), name="usage")]
