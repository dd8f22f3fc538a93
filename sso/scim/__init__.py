"""SCIM 2.0 (RFC 7643, RFC 7644): an organization's directory says who its people are, and who no longer is one."""

from typing import Final

BASE_PATH: Final = "/scim/v2"
