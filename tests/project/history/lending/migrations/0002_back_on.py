from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = (
        ("lending", "0001_initial"),
        ("history", "0002_title_and_shelf"),
    )
    operations = (
        migrations.AddField(
            "Loan", "back_on", models.ForeignKey("history.shelf", models.CASCADE, null=True)
        ),
    )
