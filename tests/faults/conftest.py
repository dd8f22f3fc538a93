"""One installation a file, to be killed."""

from tests.support.installation import installation

__all__ = ["installation"]
