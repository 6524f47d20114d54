"""The test project. `tests/conftest.py` fills in `DATABASES` before `django.setup()`."""

SECRET_KEY = "not a secret"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "tests.project.zoo",
    "tests.project.traced",
    "tests.project.exact",
    "tests.project.history",
]
# Every table by syncdb: the test apps then need no migrations and may refer to auth.
MIGRATION_MODULES = {"contenttypes": None, "auth": None}
DATABASES: dict[str, dict[str, object]] = {}
