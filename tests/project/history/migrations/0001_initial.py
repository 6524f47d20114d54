from django.db import migrations, models


def number() -> models.Field:
    return models.BigAutoField(
        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
    )


class Migration(migrations.Migration):
    initial = True
    dependencies = (("contenttypes", "__first__"),)
    operations = (
        migrations.CreateModel(
            "Shelf",
            [("id", number()), ("code", models.CharField(max_length=9, unique=True))],
        ),
        migrations.CreateModel(
            "Paper",
            [("id", number()), ("name", models.CharField(max_length=50, unique=True))],
        ),
        migrations.CreateModel(
            "Book",
            [
                (
                    "paper_ptr",
                    models.OneToOneField(
                        "history.paper",
                        models.CASCADE,
                        auto_created=True,
                        parent_link=True,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("isbn", models.CharField(max_length=13, unique=True)),
            ],
            bases=("history.paper",),
        ),
        migrations.CreateModel(
            "Chapter",
            [
                ("id", number()),
                ("paper", models.ForeignKey("history.paper", models.CASCADE)),
                ("number", models.CharField(max_length=9)),
            ],
        ),
        migrations.CreateModel(
            "Place",
            [("id", number()), ("paper", models.OneToOneField("history.paper", models.CASCADE))],
        ),
        migrations.CreateModel(
            "Note",
            [
                ("id", number()),
                (
                    "content_type",
                    models.ForeignKey("contenttypes.contenttype", models.CASCADE),
                ),
            ],
        ),
        migrations.CreateModel(
            "Label",
            [("id", number()), ("holder", models.CharField(max_length=9))],
        ),
        migrations.CreateModel(
            "Draft",
            [
                ("id", number()),
                ("name", models.CharField(max_length=50)),
                ("papers", models.ManyToManyField("history.paper")),
            ],
        ),
        migrations.CreateModel(
            "Shortlist",
            [("id", number())],
        ),
        migrations.AddField(
            "Shortlist", "picked", models.ForeignKey("history.draft_papers", models.CASCADE)
        ),
    )
