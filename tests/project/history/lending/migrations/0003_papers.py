from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = (
        ("lending", "0001_squashed_0002_back_on"),
        ("history", "0003_without_drafts"),
    )
    operations = (
        migrations.AlterField("Loan", "paper", models.ForeignKey("history.paper", models.CASCADE)),
        migrations.DeleteModel("OldPaper"),
    )
