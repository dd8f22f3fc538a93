from django.db import migrations, models

# Behind all other columns and without a default: nothing is rewritten, and a process that does not know them yet
# leaves them NULL.
COLUMNS = """
ALTER TABLE usage_requestlog ADD COLUMN attempt_trace jsonb, ADD COLUMN charge_lines jsonb;
"""


class Migration(migrations.Migration):
    dependencies = [("usage", "0002_neck")]
    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    COLUMNS, "ALTER TABLE usage_requestlog DROP COLUMN attempt_trace, DROP COLUMN charge_lines"
                )
            ],
            state_operations=[
                migrations.AddField("requestlog", "attempt_trace", models.JSONField(null=True)),
                migrations.AddField("requestlog", "charge_lines", models.JSONField(null=True)),
            ],
        )
    ]
