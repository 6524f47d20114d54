from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    replaces = (
        ("lending", "0001_initial"),
        ("lending", "0002_back_on"),
    )
    dependencies = (("history", "0002_title_and_shelf"),)
    operations = (
        migrations.CreateModel(
            "Loan",
            [
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("day", models.DateField()),
                ("back_on", models.ForeignKey("history.shelf", models.CASCADE, null=True)),
            ],
        ),
        migrations.CreateModel("OldPaper", [], {"proxy": True}, ("history.paper",)),
        migrations.AddField("Loan", "paper", models.ForeignKey("lending.oldpaper", models.CASCADE)),
    )
