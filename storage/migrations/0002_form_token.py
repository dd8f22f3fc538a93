from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("storage", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="storedobject",
            name="form_token",
            field=models.UUIDField(editable=False, null=True, unique=True),
        ),
    ]
