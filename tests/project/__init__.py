"""A Django project that only the tests use."""
