"""The demonstration's Django project. `FASTNK_DEMO_FOLDER` says where its databases are."""

import os
from pathlib import Path

FOLDER = Path(os.environ.get("FASTNK_DEMO_FOLDER", "."))

SECRET_KEY = "not a secret"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "users.User"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "fastnk.demo.users",
    "fastnk.demo.documents",
    "fastnk.demo.workflows",
    "fastnk.demo.audit",
]
# Without migrations every table comes by syncdb, in a fraction of the time.
MIGRATION_MODULES = {
    "contenttypes": None,
    "users": None,
    "documents": None,
    "workflows": None,
    "audit": None,
}
# No default database: whoever forgets to say which of the two is meant gets an error.
DATABASES = {
    "default": {},
    "old": {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER / "old.sqlite3"},
    "new": {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER / "new.sqlite3"},
}
