"""A snapshot is read from tables that others write to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from catalog import snapshot
from catalog.models import Model, Provider, Target


def test_a_snapshot_shows_one_moment(committed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is saved while it is being read comes whole with the next one, never a model whose provider is missing."""
    read_prices = snapshot._prices

    def save_something_meanwhile() -> dict[object, snapshot.PriceEntry]:
        with ThreadPoolExecutor(1) as other:
            other.submit(_save_a_model).result(30)
        return read_prices()

    monkeypatch.setattr(snapshot, "_prices", save_something_meanwhile)
    assert "meanwhile" not in snapshot.build().models
    monkeypatch.undo()
    assert [target.target.provider for target in snapshot.build().models["meanwhile"].targets] == ["meanwhile"]


def _save_a_model() -> None:
    try:
        provider = Provider(
            slug="meanwhile", name="Soon", adapter="openai", base_url="http://x.example", kinds=["chat"]
        )
        provider.set_secret("sk-stored")
        provider.save()
        model = Model.objects.create(slug="meanwhile", name="Soon", vendor=provider, endpoints=["chat"])
        Target.objects.create(model=model, provider=provider, upstream_model="soon", position=1)
    finally:
        connection.close()
