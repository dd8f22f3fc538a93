from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("keys", "0003_form_token")]

    operations = [
        migrations.AddField(
            model_name="apikey",
            name="internal",
            field=models.BooleanField(db_default=False, default=False, editable=False),
        ),
    ]
