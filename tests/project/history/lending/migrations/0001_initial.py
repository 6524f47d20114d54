from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = (("history", "0001_initial"),)
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
                ("paper", models.ForeignKey("history.paper", models.CASCADE)),
                ("day", models.DateField()),
            ],
        ),
        migrations.CreateModel("OldPaper", [], {"proxy": True}, ("history.paper",)),
        migrations.AlterField(
            "Loan", "paper", models.ForeignKey("lending.oldpaper", models.CASCADE)
        ),
    )
