"""What is in use can't be deleted unsaid: how much of what uses it, and the refusal that tells."""

from collections.abc import Mapping

from audit.services import Refusal

WORDS = {
    "members": ("member", "members"),
    "tokens": ("token", "tokens"),
    "invitations": ("open invitation", "open invitations"),
    "token_types": ("token type", "token types"),
    "roles": ("role", "roles"),
    "new_tenants": ("the client of every new tenant", "the clients of new tenants"),
}


class InUse(Refusal):
    """`usage` counts by kind what uses it, kinds with nothing included."""

    code = "in_use"
    is_denial = False

    def __init__(self, name: str, usage: Mapping[str, int]) -> None:
        self.usage = dict(usage)
        super().__init__(
            f"{name} is in use by {in_words(usage)}. Choose what takes its place, or let them all lose it."
        )


class TooMany(Refusal):
    """Pages show them all beside each other, and every check reads them."""

    code = "limit_reached"

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"There are {limit} {what}, as many as there can be: delete one first.")


def in_words(usage: Mapping[str, int]) -> str:
    named = [
        WORDS[kind][0] if kind == "new_tenants" else f"{count:,} {WORDS[kind][count != 1]}"
        for kind, count in usage.items()
        if count
    ]
    return ", ".join(named)
