"""R5's one answer to "does it work", asked of the queryset, of the policy and over HTTP."""

from apitokens import policy
from apitokens.models import ApiToken
from tests.cast import bearer, grant

SELF = "/api/v1/token/self"


def by_queryset_and_policy(*, at):
    """Two dictionaries, token id → whether it works, of all tokens that exist."""
    usable = set(ApiToken.objects.usable(at=at).values_list("token_id", flat=True))
    rows = list(ApiToken.objects.with_standing())
    states = {
        row.token_id: policy.state(row, policy.effective_permissions(policy.Standing.of(row)), at=at) for row in rows
    }
    return (
        {token_id: token_id in usable for token_id in states},
        {token_id: state == "usable" for token_id, state in states.items()},
    )


def answer_to(machine, issued):
    """What the hot path says: the token endpoint to a client, the API to an access token."""
    if issued.token.kind == "client_credentials":
        return grant(machine, issued)
    return machine.get(SELF, headers=bearer(issued.plaintext))


def assert_agreed(machine, issued, *, at):
    """`issued` are those whose secret is the present one; a token that is gone is refused, and is nowhere else."""
    queryset, policies = by_queryset_and_policy(at=at)
    assert queryset == policies
    over_http = {each.token.token_id: answer_to(machine, each).status_code == 200 for each in issued}
    assert over_http == {token_id: policies.get(token_id, False) for token_id in over_http}
