"""An app whose migrations wait for those of another; installed by the tests that want it."""
