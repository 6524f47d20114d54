"""A Django project into which the generated backups fit."""
