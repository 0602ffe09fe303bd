from allauth.account import views as account
from django.http import Http404, HttpRequest, HttpResponseBase


def password_change(request: HttpRequest) -> HttpResponseBase:
    """For people who have a password; an identity vouched for elsewhere has none and gets none here (R12)."""
    if request.user.is_authenticated and not request.user.has_usable_password():
        raise Http404
    return account.password_change(request)
