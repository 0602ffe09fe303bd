"""The few counters that tell an operator whether machines get in."""

from prometheus_client import Counter

GRANTS = Counter("tallystick_grants_total", "Answers of the token endpoint", ["outcome"])
AUTHENTICATIONS = Counter("tallystick_authentications_total", "Credentials presented to the API", ["kind", "outcome"])
