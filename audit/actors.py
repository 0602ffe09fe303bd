"""Who is acting, from where: what every service is told and every event keeps."""

from dataclasses import dataclass
from uuid import UUID

from audit.models import ActorKind


@dataclass(frozen=True, kw_only=True)
class Actor:
    """`id` is the user's or the token's; `label` a name for people, kept outside the event."""

    kind: ActorKind
    id: UUID | None = None
    label: str = ""
    on_behalf_of: UUID | None = None
    ip: str | None = None
    request_id: str = ""


SYSTEM = Actor(kind=ActorKind.SYSTEM)
