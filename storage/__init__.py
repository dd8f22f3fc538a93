"""Files of a workspace: results and uploads, on a disk or in an S3-compatible service."""
