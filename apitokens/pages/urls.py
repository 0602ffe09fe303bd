from django.urls import path

from apitokens.pages import (
    invitations,
    members,
    personal,
    records,
    roles,
    rotation,
    sign_in,
    sso,
    ticked,
    tokens,
    usage,
    views,
)
from apitokens.pages.doors import tenant_page

app_name = "portal"
_to_tokens = tenant_page("apitokens:read")
_to_members = tenant_page("members:read")
_to_roles = tenant_page("roles:read")
_to_sso = tenant_page("sso:read")

urlpatterns = [
    path("", views.home, name="home"),
    path("account/tokens/", personal.my_tokens, name="my-tokens"),
    path("t/<slug:slug>/", tenant_page(None)(views.tenant), name="tenant"),
    path("t/<slug:slug>/tokens/", _to_tokens(tokens.tokens), name="tokens"),
    path("t/<slug:slug>/tokens/new/", _to_tokens(tokens.token_new), name="token-new"),
    path("t/<slug:slug>/tokens/ticked/", _to_tokens(ticked.tokens_ticked), name="tokens-ticked"),
    path("t/<slug:slug>/tokens/<str:token_id>/", _to_tokens(tokens.token), name="token"),
    path("t/<slug:slug>/tokens/<str:token_id>/edit/", _to_tokens(tokens.token_edit), name="token-edit"),
    path("t/<slug:slug>/tokens/<str:token_id>/disable/", _to_tokens(tokens.token_disable), name="token-disable"),
    path("t/<slug:slug>/tokens/<str:token_id>/enable/", _to_tokens(tokens.token_enable), name="token-enable"),
    path("t/<slug:slug>/tokens/<str:token_id>/end-jwts/", _to_tokens(tokens.token_end_jwts), name="token-end-jwts"),
    path("t/<slug:slug>/tokens/<str:token_id>/delete/", _to_tokens(tokens.token_delete), name="token-delete"),
    path("t/<slug:slug>/tokens/<str:token_id>/take-over/", _to_tokens(tokens.token_take_over), name="token-take-over"),
    path("t/<slug:slug>/tokens/<str:token_id>/rotate/", _to_tokens(rotation.token_rotate), name="token-rotate"),
    path(
        "t/<slug:slug>/tokens/<str:token_id>/rotate/complete/",
        _to_tokens(rotation.token_rotation_complete),
        name="token-rotation-complete",
    ),
    path(
        "t/<slug:slug>/tokens/<str:token_id>/rotate/cancel/",
        _to_tokens(rotation.token_rotation_cancel),
        name="token-rotation-cancel",
    ),
    path("t/<slug:slug>/tokens.csv", _to_tokens(records.tokens_csv), name="tokens-csv"),
    path("t/<slug:slug>/usage/", tenant_page("usage:read")(usage.usage), name="usage"),
    path("t/<slug:slug>/audit/", tenant_page("audit:read")(records.audit), name="audit"),
    path("t/<slug:slug>/audit.csv", tenant_page("audit:read")(records.audit_csv), name="audit-csv"),
    path("t/<slug:slug>/members/", _to_members(members.member_list), name="members"),
    path("t/<slug:slug>/members/invite/", _to_members(members.invite), name="member-invite"),
    path("t/<slug:slug>/members/invitations/", _to_members(members.invitation_list), name="invitations"),
    path(
        "t/<slug:slug>/members/invitations/<uuid:invitation_id>/revoke/",
        _to_members(members.invitation_revoke),
        name="invitation-revoke",
    ),
    path("t/<slug:slug>/members/<uuid:member_id>/", _to_members(members.member), name="member"),
    path("t/<slug:slug>/members/<uuid:member_id>/suspend/", _to_members(members.member_suspend), name="member-suspend"),
    path(
        "t/<slug:slug>/members/<uuid:member_id>/reinstate/",
        _to_members(members.member_reinstate),
        name="member-reinstate",
    ),
    path("t/<slug:slug>/members/<uuid:member_id>/remove/", _to_members(members.member_remove), name="member-remove"),
    path("t/<slug:slug>/roles/", _to_roles(roles.role_list), name="roles"),
    path("t/<slug:slug>/roles/new/", _to_roles(roles.role_new), name="role-new"),
    path("t/<slug:slug>/roles/<uuid:role_id>/", _to_roles(roles.role), name="role"),
    path("t/<slug:slug>/roles/<uuid:role_id>/edit/", _to_roles(roles.role_edit), name="role-edit"),
    path("t/<slug:slug>/roles/<uuid:role_id>/delete/", _to_roles(roles.role_delete), name="role-delete"),
    path("t/<slug:slug>/leave/", tenant_page(None)(members.leave), name="leave"),
    path("sign-in/", sign_in.find, name="sign-in-find"),
    path("t/<slug:slug>/sign-in/", sign_in.sign_in, name="sign-in"),
    path("t/<slug:slug>/sign-in/callback/", sign_in.callback, name="sign-in-callback"),
    path("t/<slug:slug>/sso/", _to_sso(sso.single_sign_on), name="sso"),
    path("t/<slug:slug>/sso/edit/", _to_sso(sso.edit), name="sso-edit"),
    path("t/<slug:slug>/sso/enforce/", _to_sso(sso.enforce), name="sso-enforce"),
    path("t/<slug:slug>/sso/remove/", _to_sso(sso.remove), name="sso-remove"),
    path("t/<slug:slug>/sso/try/", _to_sso(sso.try_out), name="sso-try"),
    path("t/<slug:slug>/sso/<uuid:removed_id>/readmit/", _to_sso(sso.readmit), name="sso-readmit"),
    path("invitations/<str:key>/", invitations.invitation, name="invitation"),
]
