from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0004_payments"),
        ("catalog", "0002_triggers"),
        ("orgs", "0002_organizations"),
        ("statements", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="Adjustment",
            fields=[],
            options={
                "verbose_name": "adjustment",
                "verbose_name_plural": "adjustments of credits",
                "proxy": True,
                "indexes": [],
                "constraints": [],
            },
            bases=("billing.transfer",),
        ),
        migrations.CreateModel(
            name="ModelMargin",
            fields=[],
            options={
                "verbose_name": "margin",
                "verbose_name_plural": "margins by model",
                "proxy": True,
                "indexes": [],
                "constraints": [],
            },
            bases=("catalog.model",),
        ),
        migrations.CreateModel(
            name="SuspiciousWorkspace",
            fields=[],
            options={
                "verbose_name": "suspicious workspace",
                "verbose_name_plural": "suspicious usage",
                "proxy": True,
                "indexes": [],
                "constraints": [],
            },
            bases=("orgs.workspace",),
        ),
    ]
