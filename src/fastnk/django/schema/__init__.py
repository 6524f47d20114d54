"""The schema of a Django project."""
