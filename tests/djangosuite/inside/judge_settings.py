"""Settings for Django's runtests.py: what the variable JUDGE says, as JSON."""

import json
import os

_JUDGE = json.loads(os.environ["JUDGE"])

DATABASES = {
    alias: _JUDGE["database"] | {"NAME": name}
    for alias, name in {"default": "django", "other": "django2"}.items()
}
if _JUDGE["howdah"] is not None:
    HOWDAH = _JUDGE["howdah"]

TEST_RUNNER = "judge_runner.Runner"

# As Django's own tests/test_sqlite.py.
SECRET_KEY = "django_tests_secret_key"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
