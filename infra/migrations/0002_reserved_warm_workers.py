from django.db import migrations, models
from django.db.models import F, Q

# Until now warm workers were charged afterwards, under the deployment's id in a key's place. Deployments that keep some
# are looked at once more: their workers are reserved before the engine is told of them again.


def look_again(apps, schema_editor):
    rows = apps.get_model("infra", "Deployment").objects.filter(min_workers__gt=0, warm_stopped_at=None)
    rows.exclude(state="deleted").update(wanted_version=F("wanted_version") + 1)


def name_payers(apps, schema_editor):
    apps.get_model("infra", "WarmCharge").objects.filter(key_id=None).update(key_id=F("deployment_id"))


def say_why(apps, schema_editor):
    rows = apps.get_model("infra", "Deployment").objects.exclude(warm_stopped_at=None)
    rows.update(warm_stopped_because="balance")


class Migration(migrations.Migration):
    # Rows are changed between changes of their tables.
    atomic = False

    dependencies = [("infra", "0001_deployments"), ("keys", "0004_internal")]

    operations = [
        migrations.RemoveField(model_name="deployment", name="warm_billed_until"),
        migrations.AddField(model_name="deployment", name="warm_key_id", field=models.UUIDField(null=True)),
        migrations.AddField(
            model_name="deployment",
            name="warm_stopped_because",
            field=models.CharField(
                blank=True,
                choices=[
                    ("balance", "The balance was too low. Top up, then save the deployment again."),
                    ("limit", "A spending limit is reached. Raise it, then save the deployment again."),
                    (
                        "key",
                        "The API key or the member that paid for them is not active any more."
                        " Save the deployment again.",
                    ),
                    ("price", "Its GPU types have no price at this moment. Choose others and save the deployment."),
                ],
                default="",
                max_length=8,
            ),
            preserve_default=False,
        ),
        migrations.AddField(model_name="warmcharge", name="key_id", field=models.UUIDField(null=True)),
        migrations.RunPython(name_payers, migrations.RunPython.noop),
        migrations.AlterField(model_name="warmcharge", name="key_id", field=models.UUIDField()),
        migrations.AddField(model_name="warmcharge", name="price_id", field=models.UUIDField(null=True)),
        migrations.AddField(
            model_name="warmcharge",
            name="gpu_type",
            field=models.CharField(blank=True, default="", max_length=64),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="warmcharge", name="microcredits_per_second", field=models.BigIntegerField(default=0)
        ),
        migrations.AlterField(model_name="warmcharge", name="since", field=models.DateTimeField(null=True)),
        migrations.AlterField(model_name="warmcharge", name="until", field=models.DateTimeField(null=True)),
        migrations.AlterField(
            model_name="warmcharge", name="charged_microcredits", field=models.BigIntegerField(null=True)
        ),
        migrations.AddConstraint(
            model_name="warmcharge",
            constraint=models.UniqueConstraint(
                condition=Q(charged_microcredits__isnull=True),
                fields=["deployment"],
                name="infra_warm_charge_one_open",
            ),
        ),
        migrations.RunPython(say_why, migrations.RunPython.noop),
        migrations.RunPython(look_again, migrations.RunPython.noop),
    ]
