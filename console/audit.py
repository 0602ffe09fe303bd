"""The record of a whole environment, and its tokens, to look at and to take away."""

from django.urls import path

from apitokens.pages import records
from console.doors import console_page

_to_audit = console_page("audit:read")

urlpatterns = [
    path("tokens.csv", console_page("apitokens:read")(records.tokens_csv), name="tokens-csv"),
    path("audit/", _to_audit(records.audit), name="audit"),
    path("audit.csv", _to_audit(records.audit_csv), name="audit-csv"),
]
