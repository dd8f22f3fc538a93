"""A kind of job that only tests have, an app of its own: processes get it by `tests.support.paintings.settings`."""
