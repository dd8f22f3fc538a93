import django.db.models.deletion
from django.db import migrations, models

import core.clock
import core.ids


class Migration(migrations.Migration):
    dependencies = [
        ("orgs", "0002_organizations"),
        ("statements", "0002_operator_pages"),
    ]

    operations = [
        migrations.CreateModel(
            name="SentStatement",
            fields=[
                ("id", models.UUIDField(default=core.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ("month", models.DateField()),
                ("email", models.EmailField(blank=True, max_length=254)),
                ("sent_at", models.DateTimeField(default=core.clock.now)),
                (
                    "workspace",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="sent_statements", to="orgs.workspace"
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("workspace", "month"), name="statements_sent_once")],
            },
        ),
    ]
