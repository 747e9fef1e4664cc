"""Settings for Django's runtests.py: what the variable JUDGE says, as JSON."""

import json
import os

from test_sqlite import *  # noqa: F403  # Django's own settings for its tests

_JUDGE = json.loads(os.environ["JUDGE"])

DATABASES = {
    alias: _JUDGE["database"] | {"NAME": name}
    for alias, name in {"default": "django", "other": "django2"}.items()
}
if _JUDGE["howdah"] is not None:
    HOWDAH = _JUDGE["howdah"]

TEST_RUNNER = "judge_runner.Runner"
