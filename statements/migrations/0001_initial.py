import django.db.models.deletion
from django.db import migrations, models

import core.clock
import core.ids


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("orgs", "0002_organizations"),
    ]

    operations = [
        migrations.CreateModel(
            name="BillingProfile",
            fields=[
                ("id", models.UUIDField(default=core.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ("legal_name", models.CharField(blank=True, max_length=160, verbose_name="legal name")),
                ("email", models.EmailField(blank=True, max_length=254, verbose_name="billing e-mail")),
                ("address", models.TextField(blank=True, max_length=400, verbose_name="address")),
                ("tax_id", models.CharField(blank=True, max_length=40, verbose_name="tax id")),
                ("created_at", models.DateTimeField(default=core.clock.now)),
                (
                    "workspace",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="billing_profiles",
                        to="orgs.workspace",
                    ),
                ),
            ],
            options={
                "verbose_name": "billing profile",
                "verbose_name_plural": "billing profiles",
                "indexes": [models.Index(fields=["workspace", "-id"], name="statements_profile_newest")],
            },
        ),
    ]
