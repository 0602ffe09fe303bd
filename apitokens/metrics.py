"""The few counters that tell an operator whether machines get in."""

from prometheus_client import Counter

GRANTS = Counter("tallystick_grants_total", "Answers of the token endpoint", ["outcome"])
AUTHENTICATIONS = Counter("tallystick_authentications_total", "Credentials presented to the API", ["kind", "outcome"])
REFUSALS_LIMITED = Counter("tallystick_refusals_limited_total", "Refused credentials that were one too many")
FLUSH_FAILURES = Counter("tallystick_flush_failures_total", "Rounds in which gathered uses could not be written")
