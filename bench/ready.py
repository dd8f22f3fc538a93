"""Sets Django up when it is imported: the first import of what runs inside the product."""

import django

django.setup(set_prefix=False)
