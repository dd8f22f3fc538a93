from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("limits", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="limitnotice",
            name="outdated",
            field=models.BooleanField(db_default=False, default=False),
        ),
    ]
