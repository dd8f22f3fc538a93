"""The catalog files: what they must hold, and how a fault in them is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog import media, source
from catalog.endpoints import CHAT, GEMINI, MESSAGES, RESPONSES
from catalog.pricing import scaled

# -- This repository's own files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "count"),
    [
        ("chat", 24 + 20),  # Gemini ids answer here too
        ("messages", 3),
        ("responses", 16 + 9),  # every gpt-* chat id, and the Codex ids
        ("gemini", 20),
        ("embeddings", 3),
        ("images", 22 + 1),
        ("videos", 21 + 3),
        ("audio", 3 + 6),  # and OpenAI's own
    ],
)
def test_every_id_of_the_reference_is_there(catalog_files: source.CatalogSource, endpoint: str, count: int) -> None:
    served = [entry.slug for entry in catalog_files.models.values() if endpoint in entry.endpoints]
    assert len(served) == count


def test_endpoints_follow_the_contract(catalog_files: source.CatalogSource) -> None:
    for slug, entry in catalog_files.models.items():
        kinds = set(entry.endpoints)
        if slug.startswith("claude-"):
            assert kinds == {MESSAGES}, slug
        elif "codex" in slug:
            assert kinds == {RESPONSES}, slug
        elif slug.startswith("gpt-") and "image" not in slug and "audio" not in kinds:
            assert kinds == {CHAT, RESPONSES}, slug
        elif GEMINI in kinds:
            assert kinds == {GEMINI, CHAT}, slug


def test_every_model_has_a_price_and_somebody_to_serve_it(catalog_files: source.CatalogSource) -> None:
    for slug, entry in catalog_files.models.items():
        assert entry.price is not None, slug
        kinds = {kind for target in entry.targets for kind in catalog_files.providers[target.provider].kinds}
        assert set(entry.endpoints) <= kinds, slug
        if entry.price.guess:
            assert entry.price.note, slug


def test_old_ids_map_to_the_newest_equal(catalog_files: source.CatalogSource) -> None:
    expected = {
        "claude-sonnet-4-5-20250929": "claude-sonnet-4-6",
        "claude-3-5-sonnet-20241022": "claude-sonnet-4-6",
        "claude-3-5-haiku-20241022": "claude-haiku-4-5",
    }
    assert expected.items() <= catalog_files.aliases.items()


def test_customer_prices_stand_below_the_list_where_the_contract_says_so(catalog_files: source.CatalogSource) -> None:
    for slug, entry in catalog_files.models.items():
        vendor = catalog_files.providers[entry.vendor]
        factor = entry.price_factor_basis_points or vendor.price_factor_basis_points
        media_at_standard_rate = set(entry.endpoints) & {"videos", "audio"}
        below = entry.vendor in ("openai", "anthropic", "google") and not media_at_standard_rate
        assert (factor < 10_000) is below, slug


def test_no_tier_or_speed_class_leaves_out_a_rate_of_the_base(catalog_files: source.CatalogSource) -> None:
    for slug, entry in catalog_files.models.items():
        assert entry.price is not None
        rates = entry.price.rates
        base = {bucket for bucket, _ in rates.tokens.items()}
        tables = [tier.rates for tier in rates.long_context] + [tier.rates for tier in rates.service_tiers]
        for table in tables:
            assert {bucket for bucket, _ in table.items()} == base, slug


def test_gpt_image_2_follows_the_reference(catalog_files: source.CatalogSource) -> None:
    entry = catalog_files.models["gpt-image-2"]
    rules = media.parse(entry.media)
    assert {size for size, _ in rules.sizes} == {"1024x1024", "1536x1024", "1024x1536", "2048x2048", "4096x4096"}
    assert [rules.tier(size=size) for size in ("1536x1024", "2048x2048", "4096x4096", "512x512")] == [
        "1K",
        "2K",
        "4K",
        None,
    ]
    assert rules.references == media.References(kinds=("https",), maximum=4)
    assert entry.price is not None
    assert {tier for tier, _ in entry.price.rates.unit_prices} == {"1K", "2K", "4K"}


def test_nano_banana_2_follows_the_reference(catalog_files: source.CatalogSource) -> None:
    rules = media.parse(catalog_files.models["gemini-3-1-flash-t2i"].media)
    assert set(rules.aspect_ratios) == {"1:1", "3:2", "2:3", "4:3", "3:4", "16:9", "9:16", "21:9"}
    assert [name for name, _ in rules.resolutions] == ["0.5K", "1K", "2K", "4K"]
    assert rules.references == media.References(kinds=("https", "data"), maximum=4)


def test_videos_cost_by_the_clip_or_by_the_second(catalog_files: source.CatalogSource) -> None:
    for slug, entry in catalog_files.models.items():
        if "videos" not in entry.endpoints:
            continue
        assert entry.price is not None
        by_clip = slug == "gemini_omni_flash" or slug.lower().startswith(("veo", "vidu", "grok"))
        assert entry.price.rates.unit == ("clip" if by_clip else "second"), slug
        assert media.parse(entry.media).default_resolution == "720P", slug
    omni = media.parse(catalog_files.models["gemini_omni_flash"].media)
    assert set(omni.aspect_ratios) == {"16:9", "9:16"}
    assert omni.durations is not None
    assert omni.durations.allows(6)


def test_the_routing_examples_resolve(catalog_files: source.CatalogSource) -> None:
    turbo = catalog_files.models["seedance-2-0-turbo-t2v"]
    assert [target.region for target in turbo.targets] == ["us-east", "us-west", "eu-central"]
    assert "text-to-image-fast" in catalog_files.models["nano-banana-t2i"].intents
    assert {"seedance-2-0", "seedance-2-0-t2v"} <= set(catalog_files.models)


def test_a_small_wallet_can_hold_a_call_that_names_no_maximum(catalog_files: source.CatalogSource) -> None:
    """The least balance for a call is 200 credits: a reservation for the default ceiling has to fit into it."""
    for slug, entry in catalog_files.models.items():
        if entry.default_max_output_tokens and entry.price and entry.price.rates.tokens.output:
            vendor = catalog_files.providers[entry.vendor]
            rates = scaled(entry.price.rates, entry.price_factor_basis_points or vendor.price_factor_basis_points)
            held = entry.default_max_output_tokens * (rates.tokens.output or 0) // 1_000_000
            assert held < 100 * 1_000_000, slug


# -- Faults -----------------------------------------------------------------------------------------------------------

GOOD = """
[providers.acme]
name = "Acme"
adapter = "openai"
base_url = "https://api.acme.example/v1/"
kinds = ["chat"]
price_factor = "0.9"

[models.chatty]
name = "Chatty"
vendor = "acme"
endpoints = ["chat"]
default_max_output_tokens = 100
targets = [{ provider = "acme", model = "chatty-1" }]
[models.chatty.price]
tokens = { input = "1", output = "2" }

[aliases]
talkative = "chatty"
"""


def problems(folder: Path, text: str) -> str:
    (folder / "catalog.toml").write_text(text, encoding="utf-8")
    with pytest.raises(source.CatalogInvalid) as invalid:
        source.read(folder)
    return "\n".join(invalid.value.problems)


def test_a_good_file_reads(tmp_path: Path) -> None:
    (tmp_path / "catalog.toml").write_text(GOOD, encoding="utf-8")
    read = source.read(tmp_path)
    assert read.providers["acme"].base_url == "https://api.acme.example/v1"
    assert read.providers["acme"].price_factor_basis_points == 9_000
    assert read.models["chatty"].price is not None
    assert read.models["chatty"].price.rates.tokens.input == 100_000_000
    assert read.aliases == {"talkative": "chatty"}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('input = "1"', "input = 1.5", "write USD as a string"),
        ('input = "1"', 'input = "-1"', "not a price"),
        ('input = "1"', 'input = "0.000000001"', "at most eight decimals"),
        ('input = "1"', 'entry = "1"', "unknown member 'entry'"),
        (', output = "2"', "", "input and output, or a unit"),
        ('vendor = "acme"', 'vendor = "nobody"', "vendor: 'nobody' is unknown"),
        ('endpoints = ["chat"]', 'endpoints = ["chatting"]', "endpoints: 'chatting' is unknown"),
        ('endpoints = ["chat"]', 'endpoints = ["images"]', "must price exactly the tiers default"),
        ("default_max_output_tokens = 100", "", "a reservation needs it"),
        ("default_max_output_tokens = 100", "max_tokens = 100", "unknown member 'max_tokens'"),
        ('{ provider = "acme", model', '{ provider = "none", model', "targets.provider: 'none' is unknown"),
        ('adapter = "openai"', 'adapter = "telepathy"', "adapter: 'telepathy' is unknown"),
        ("https://api.acme.example/v1/", "api.acme.example", "a base URL is http:// or https://"),
        ('talkative = "chatty"', 'talkative = "mute"', "'mute' is not a model"),
        ('talkative = "chatty"', 'chatty = "chatty"', "is the id of a model"),
        ('tokens = { input = "1", output = "2" }', 'same_as = "chatty"', "is not another model with a price"),
        (
            'tokens = { input = "1", output = "2" }',
            'tokens = { input = "1", output = "2" }\nguess = true',
            "needs a note",
        ),
        ("[aliases]", "[aliases", "catalog.toml"),
    ],
)
def test_a_fault_is_told_with_its_place(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in GOOD
    assert told in problems(tmp_path, GOOD.replace(old, new))


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    told = problems(tmp_path, GOOD.replace('"openai"', '"telepathy"').replace('input = "1"', "input = 1.5"))
    assert "telepathy" in told
    assert "models" in told


def test_an_empty_folder_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(source.CatalogInvalid, match="no catalog files"):
        source.read(tmp_path)
