"""An app with a past: three migrations, none of which leaves all models as they were."""
