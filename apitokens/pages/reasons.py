"""Why something was refused, as the record tells it: words for the codes that are in the events."""

from collections.abc import Mapping

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

REASONS: Mapping[str, str | Promise] = {
    "account_exists": gettext_lazy("account exists"),
    "already_issued": gettext_lazy("already issued"),
    "already_so": gettext_lazy("already so"),
    "another_person": gettext_lazy("another person"),
    "built_in": gettext_lazy("built in"),
    "deleted": gettext_lazy("deleted"),
    "environment_above_ceiling": gettext_lazy("environment above ceiling"),
    "expired": gettext_lazy("expired"),
    "insufficient_scope": gettext_lazy("insufficient scope"),
    "invalid": gettext_lazy("invalid"),
    "invitation_expired": gettext_lazy("invitation expired"),
    "invitation_for_another": gettext_lazy("invitation for another"),
    "invitation_used": gettext_lazy("invitation used"),
    "invitation_void": gettext_lazy("invitation void"),
    "last_environment": gettext_lazy("last environment"),
    "last_owner": gettext_lazy("last owner"),
    "limit_reached": gettext_lazy("limit reached"),
    "member_suspended": gettext_lazy("member suspended"),
    "name_taken": gettext_lazy("name taken"),
    "needs_environment_token": gettext_lazy("needs environment token"),
    "needs_token": gettext_lazy("needs token"),
    "no_entry": gettext_lazy("no entry"),
    "not_available": gettext_lazy("not available"),
    "not_found": gettext_lazy("not found"),
    "not_its_owner": gettext_lazy("not its owner"),
    "old_secret_in_use": gettext_lazy("old secret in use"),
    "out_of_policy": gettext_lazy("out of policy"),
    "out_of_reach": gettext_lazy("out of reach"),
    "own_roles": gettext_lazy("own roles"),
    "owners_and_admins_only": gettext_lazy("owners and admins only"),
    "owners_only": gettext_lazy("owners only"),
    "permission_above_ceiling": gettext_lazy("permission above ceiling"),
    "quota_reached": gettext_lazy("quota reached"),
    "refused": gettext_lazy("refused"),
    "retired_secret": gettext_lazy("retired secret"),
    "role_above_ceiling": gettext_lazy("role above ceiling"),
    "role_not_allowed": gettext_lazy("role not allowed"),
    "secret_in_address": gettext_lazy("secret in address"),
    "sign_in_with_it_first": gettext_lazy("sign in with it first"),
    "tenant_closed": gettext_lazy("tenant closed"),
    "token_makes_no_tokens": gettext_lazy("token makes no tokens"),
    "token_type_disabled": gettext_lazy("token type disabled"),
    "too_late": gettext_lazy("too late"),
    "too_many_invitations": gettext_lazy("too many invitations"),
    "too_many_keys": gettext_lazy("too many keys"),
    "widens_own_role": gettext_lazy("widens own role"),
    "wider_than_caller": gettext_lazy("wider than caller"),
    "wider_than_parent": gettext_lazy("wider than parent"),
    "wrong_secret": gettext_lazy("wrong secret"),
}


def reason_in_words(code: str) -> str:
    """A code that has no words yet, of an older or a newer version, is said as it is."""
    return str(REASONS.get(code, code.replace("_", " ")))
