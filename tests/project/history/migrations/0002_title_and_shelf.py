from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = (("history", "0001_initial"),)
    operations = (
        migrations.CreateModel(
            "Stamp",
            [
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("code", models.CharField(max_length=9, unique=True)),
            ],
        ),
        migrations.RenameField("Paper", "name", "title"),
        migrations.AddField(
            "Paper", "shelf", models.ForeignKey("history.shelf", models.PROTECT, null=True)
        ),
        migrations.AddField(
            "Paper", "copies_on", models.ManyToManyField("history.shelf", related_name="+")
        ),
        migrations.RemoveField("Label", "holder"),
        migrations.AddField(
            "Label", "holder", models.ForeignKey("history.paper", models.CASCADE, default=1)
        ),
        migrations.AddField("Note", "object_id", models.PositiveIntegerField(default=0)),
    )
