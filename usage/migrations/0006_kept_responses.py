from django.db import migrations, models

# Behind all other columns and without a default: nothing is rewritten, and a process that does not know it yet leaves
# it NULL. Few rows bear it, so the index is small, and a row without it costs the index nothing.
COLUMN = """
ALTER TABLE usage_requestlog ADD COLUMN response_id varchar(200);
CREATE INDEX usage_log_response ON usage_requestlog (response_id) WHERE response_id IS NOT NULL;
"""


class Migration(migrations.Migration):
    dependencies = [("usage", "0005_lots_that_end")]
    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(COLUMN, "ALTER TABLE usage_requestlog DROP COLUMN response_id"),
            ],
            state_operations=[
                migrations.AddField("requestlog", "response_id", models.CharField(max_length=200, null=True)),
                migrations.AddIndex(
                    "requestlog",
                    models.Index(
                        fields=["response_id"],
                        name="usage_log_response",
                        condition=models.Q(response_id__isnull=False),
                    ),
                ),
            ],
        )
    ]
