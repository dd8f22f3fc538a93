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
            name="FailedAttempt",
            fields=[
                ("id", models.UUIDField(default=core.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ("workspace_id", models.UUIDField()),
                ("user_id", models.UUIDField(null=True)),
                ("created_at", models.DateTimeField(default=core.clock.now)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["workspace_id", "created_at"], name="vouchers_attempt_workspace"),
                    models.Index(fields=["user_id", "created_at"], name="vouchers_attempt_user"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Voucher",
            fields=[
                ("id", models.UUIDField(default=core.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ("code_hash", models.BinaryField(max_length=32, unique=True)),
                ("ending", models.CharField(editable=False, max_length=8, verbose_name="ends in")),
                ("amount_microcredits", models.BigIntegerField(verbose_name="amount, microcredits")),
                ("redemption_limit", models.PositiveIntegerField(default=1, verbose_name="redemptions")),
                ("redeemed_count", models.PositiveIntegerField(default=0, verbose_name="redeemed")),
                ("expires_at", models.DateTimeField(blank=True, null=True, verbose_name="code valid until")),
                (
                    "credits_valid_days",
                    models.PositiveIntegerField(blank=True, null=True, verbose_name="credits last, days"),
                ),
                ("note", models.CharField(blank=True, max_length=200, verbose_name="note")),
                ("withdrawn_at", models.DateTimeField(blank=True, null=True, verbose_name="withdrawn")),
                ("created_by", models.CharField(editable=False, max_length=254, verbose_name="issued by")),
                ("created_at", models.DateTimeField(default=core.clock.now, editable=False, verbose_name="issued")),
            ],
            options={
                "verbose_name": "voucher",
                "verbose_name_plural": "vouchers",
                "ordering": ["-id"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("amount_microcredits__gt", 0)), name="vouchers_amount_positive"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("redeemed_count__lte", models.F("redemption_limit")), ("redemption_limit__gte", 1)
                        ),
                        name="vouchers_redeemed_in_bounds",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Redemption",
            fields=[
                ("id", models.UUIDField(default=core.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ("user_id", models.UUIDField(null=True)),
                ("amount_microcredits", models.BigIntegerField()),
                ("credits_expire_at", models.DateTimeField(null=True)),
                ("redeemed_at", models.DateTimeField(default=core.clock.now)),
                (
                    "workspace",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="voucher_redemptions",
                        to="orgs.workspace",
                    ),
                ),
                (
                    "voucher",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="redemptions", to="vouchers.voucher"
                    ),
                ),
            ],
            options={
                "verbose_name": "redemption",
                "verbose_name_plural": "redemptions",
                "constraints": [
                    models.UniqueConstraint(fields=("voucher", "workspace"), name="vouchers_once_a_workspace")
                ],
            },
        ),
    ]
