"""One installation a file, to be killed; and assertions that tell what they compared."""

import pytest

pytest.register_assert_rewrite("tests.torture.machine")

from tests.support.installation import installation  # noqa: E402  (the line above comes before what it is about)

__all__ = ["installation"]
