"""The loaded catalog for database tests, and snapshots made by hand for the pure ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from catalog import live, loading, source


@pytest.fixture(scope="session")
def catalog_files() -> source.CatalogSource:
    """What this repository's own catalog files say."""
    return source.read()


@pytest.fixture
def loaded(db: None, catalog_files: source.CatalogSource) -> source.CatalogSource:
    """The catalog files, loaded into the tables."""
    loading.load(catalog_files)
    return catalog_files


@pytest.fixture(autouse=True)
def fresh_page() -> Iterator[None]:
    """Pages of one test may not show the catalog of the one before."""
    live.forget()
    yield
    live.forget()
