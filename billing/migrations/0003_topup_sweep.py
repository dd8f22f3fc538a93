from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0002_books"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveIndex(model_name="topup", name="billing_topup_open"),
        migrations.AddField("topup", "mailed_at", models.DateTimeField(null=True)),
        migrations.AddField("topup", "run_after", models.DateTimeField(null=True)),
        migrations.AddField("topup", "attempts", models.PositiveSmallIntegerField(default=0)),
        migrations.AddIndex(
            model_name="topup",
            index=models.Index(
                condition=models.Q(("run_after__isnull", False)), fields=["run_after"], name="billing_topup_due"
            ),
        ),
    ]
