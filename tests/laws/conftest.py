"""Hypothesis profiles: `dev` (the default) is quick, `ci` looks further.

The environment variable HYPOTHESIS_PROFILE chooses.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# The tests' own folder (root conftest) is a function-scoped fixture; laws do not touch files.
COMMON = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}
settings.register_profile("dev", max_examples=60, **COMMON)
settings.register_profile("ci", max_examples=1000, derandomize=True, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))
