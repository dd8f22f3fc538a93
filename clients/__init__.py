"""The programs that people use, at pinned versions, each against a whole site: `make clients`."""
