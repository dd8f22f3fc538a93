"""Worker images that come with the project, as handlers for the vendor's worker SDK."""
