from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("infra", "0002_reserved_warm_workers")]

    operations = [
        migrations.AddField(
            model_name="hostedendpoint",
            name="applied",
            field=models.CharField(blank=True, default="", max_length=64),
            preserve_default=False,
        ),
    ]
