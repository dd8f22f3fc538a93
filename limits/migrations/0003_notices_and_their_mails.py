import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("limits", "0002_outdated_notices"), ("orgs", "__first__")]

    operations = [
        migrations.AddField(
            model_name="limitnotice",
            name="workspace",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.CASCADE, related_name="+", to="orgs.workspace"
            ),
        ),
        migrations.AddField(
            model_name="limitnotice", name="spent_microcredits", field=models.BigIntegerField(db_default=0, default=0)
        ),
        migrations.AddField(
            model_name="limitnotice", name="limit_microcredits", field=models.BigIntegerField(db_default=0, default=0)
        ),
        migrations.AddField(
            model_name="limitnotice", name="disabled", field=models.BooleanField(db_default=False, default=False)
        ),
        migrations.AddField(
            model_name="limitnotice", name="mail_due", field=models.BooleanField(db_default=False, default=False)
        ),
        migrations.AddIndex(
            model_name="limitnotice",
            index=models.Index(condition=models.Q(("mail_due", True)), fields=["id"], name="limits_notice_due"),
        ),
    ]
