from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("sso", "0002_scim_user_without_account")]

    operations = [
        migrations.AddField(
            model_name="ssoconnection",
            name="provider_logout",
            field=models.BooleanField(default=False, verbose_name="sign-out at the provider"),
        ),
    ]
