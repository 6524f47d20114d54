from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = (("history", "0002_title_and_shelf"),)
    operations = (
        migrations.DeleteModel("Shortlist"),
        migrations.DeleteModel("Draft"),
        migrations.AlterField("Chapter", "number", models.IntegerField()),
        migrations.AlterField(
            "Label", "holder", models.ForeignKey("history.shelf", models.CASCADE)
        ),
        migrations.AlterField("Note", "object_id", models.PositiveIntegerField()),
    )
