"""Restores into the databases of a Django project."""
