"""For all tests: hypothesis fails for a wrong result alone, never for a busy machine."""

from hypothesis import HealthCheck, settings

import lib  # noqa: F401 (what surrounds the tests is settled before torch loads)

settings.register_profile(
    "steady", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60
)
settings.load_profile("steady")
