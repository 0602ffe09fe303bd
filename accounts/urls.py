"""A person's own pages, `/account/…`, and those of signing in, `/accounts/…`; of allauth's only what is used."""

from allauth.account import views as account
from allauth.mfa.base import views as mfa
from allauth.mfa.recovery_codes import views as recovery_codes
from allauth.mfa.webauthn import views as webauthn
from django.urls import path, re_path

from accounts import views
from accounts.views import of_local_people, personal

urlpatterns = [
    path("account/", personal(views.profile), name="account"),
    path("account/sessions/", personal(views.sessions), name="usersessions_list"),
    path("account/security/", of_local_people(mfa.index), name="mfa_index"),
    path("account/security/app/add/", of_local_people(views.ActivateTOTP.as_view()), name="mfa_activate_totp"),
    path("account/security/app/remove/", of_local_people(views.DeactivateTOTP.as_view()), name="mfa_deactivate_totp"),
    path("account/security/passkeys/add/", of_local_people(views.AddPasskey.as_view()), name="mfa_add_webauthn"),
    path(
        "account/security/passkeys/<int:pk>/rename/",
        of_local_people(views.RenamePasskey.as_view()),
        name="mfa_edit_webauthn",
    ),
    path(
        "account/security/passkeys/<int:pk>/remove/",
        of_local_people(views.RemovePasskey.as_view()),
        name="mfa_remove_webauthn",
    ),
    path(
        "account/security/recovery-codes/",
        of_local_people(recovery_codes.view_recovery_codes),
        name="mfa_view_recovery_codes",
    ),
    path(
        "account/security/recovery-codes/new/",
        of_local_people(views.GenerateRecoveryCodes.as_view()),
        name="mfa_generate_recovery_codes",
    ),
    path("accounts/login/", account.login, name="account_login"),
    path("accounts/login/passkey/", webauthn.login_webauthn, name="mfa_login_webauthn"),
    path("accounts/login/code/", views.SecondStep.as_view(), name="mfa_authenticate"),
    path("accounts/inactive/", account.account_inactive, name="account_inactive"),
    path("accounts/logout/", account.logout, name="account_logout"),
    path("accounts/confirm/", of_local_people(account.reauthenticate), name="account_reauthenticate"),
    path("accounts/confirm/code/", of_local_people(mfa.reauthenticate), name="mfa_reauthenticate"),
    path(
        "accounts/confirm/passkey/",
        of_local_people(views.ReauthenticateByPasskey.as_view()),
        name="mfa_reauthenticate_webauthn",
    ),
    path("accounts/password/change/", views.password_change, name="account_change_password"),
    path("accounts/password/reset/", account.password_reset, name="account_reset_password"),
    path("accounts/password/reset/done/", account.password_reset_done, name="account_reset_password_done"),
    re_path(
        r"^accounts/password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$",
        account.password_reset_from_key,
        name="account_reset_password_from_key",
    ),
    path(
        "accounts/password/reset/key/done/",
        account.password_reset_from_key_done,
        name="account_reset_password_from_key_done",
    ),
]
