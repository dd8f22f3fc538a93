"""What can be called, at what price, and who serves it: five small tables, loaded from data and edited in the admin.

Everything a call needs is read from here into one frozen ``snapshot.Snapshot``; the gateway never queries these tables.
Any change sends a notification on the channel ``hypereal_catalog`` (a database trigger), whoever made it.
"""

from __future__ import annotations

from typing import Any

from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from catalog import codec, endpoints
from catalog.pricing import BUCKETS, Rates, TokenRates
from core import clock, ids, secrets

#: The channel that a database trigger notifies on every change of a catalog table.
CHANNEL = "hypereal_catalog"

_slug_of_provider = RegexValidator(r"^[a-z0-9][a-z0-9-]*$", _("Use lower-case letters, digits and hyphens."))
#: Only variables that are named like keys: the admin can't send this installation's own secrets to a base URL.
_name_of_key = RegexValidator(
    r"^[A-Z][A-Z0-9_]*_(API_KEY|TOKEN)$", _("Name a variable that ends in _API_KEY or _TOKEN.")
)
_slug_of_model = RegexValidator(r"^[A-Za-z0-9][A-Za-z0-9._-]*$", _("Use letters, digits, dots, hyphens, underscores."))


class Provider(models.Model):
    """Somebody who serves models: where, how it is spoken to, and with which key."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    slug = models.CharField(_("slug"), max_length=64, unique=True, validators=[_slug_of_provider])
    name = models.CharField(_("name"), max_length=120)
    adapter = models.CharField(_("adapter"), max_length=32, choices=[(word, word) for word in endpoints.ADAPTERS])
    base_url = models.CharField(_("base URL"), max_length=300, blank=True)
    kinds = models.JSONField(_("endpoint kinds it speaks"), default=list)
    secret_sealed = models.BinaryField(null=True, editable=False)
    secret_env = models.CharField(
        _("key from environment variable"),
        max_length=120,
        blank=True,
        validators=[_name_of_key],
        help_text=_("Where this variable is set, its value is used instead of the stored key."),
    )
    enabled = models.BooleanField(_("enabled"), default=True)
    price_factor_basis_points = models.PositiveIntegerField(
        _("price factor"), default=10_000, help_text=_("Customer price as ten-thousandths of the list price.")
    )
    options = models.JSONField(_("options"), default=dict, blank=True)
    managed = models.BooleanField(
        _("from the catalog files"),
        default=False,
        help_text=_("An operator's edit takes a row out of the files' care."),
    )

    class Meta:
        verbose_name = _("provider")
        verbose_name_plural = _("providers")
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.name

    @property
    def has_secret(self) -> bool:
        """Whether a key is stored (one from the environment is not counted)."""
        return bool(self.secret_sealed)

    def set_secret(self, text: str) -> None:
        """Seal ``text`` as this provider's key; an empty text removes it. Not saved yet."""
        self.secret_sealed = secrets.encrypt(text) if text else None

    def secret(self) -> str:
        """The stored key in the clear, or an empty text. Raises core.secrets.Unreadable where no sealing key fits."""
        return secrets.decrypt(bytes(self.secret_sealed)) if self.secret_sealed else ""


class Model(models.Model):
    """Something a caller names in ``model``. Disabled models are kept: log and price history point at them."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    slug = models.CharField(_("id"), max_length=120, unique=True, validators=[_slug_of_model])
    name = models.CharField(_("name"), max_length=120)
    vendor = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="own_models", verbose_name=_("vendor"))
    family = models.CharField(_("family"), max_length=120, blank=True)
    endpoints = models.JSONField(_("endpoint kinds"), default=list)
    context_tokens = models.PositiveIntegerField(_("context tokens"), null=True, blank=True)
    max_output_tokens = models.PositiveIntegerField(_("most output tokens"), null=True, blank=True)
    default_max_output_tokens = models.PositiveIntegerField(
        _("default output ceiling"),
        null=True,
        blank=True,
        help_text=_("Output tokens reserved for a call that names no maximum of its own."),
    )
    capabilities = models.JSONField(_("capabilities"), default=list, blank=True)
    intents = models.JSONField(_("intents"), default=list, blank=True)
    media = models.JSONField(_("media rules"), default=dict, blank=True)
    price_factor_basis_points = models.PositiveIntegerField(
        _("own price factor"), null=True, blank=True, help_text=_("Empty: the vendor's factor.")
    )
    enabled = models.BooleanField(_("enabled"), default=True)
    managed = models.BooleanField(
        _("from the catalog files"),
        default=False,
        help_text=_("An operator's edit takes a row out of the files' care."),
    )

    class Meta:
        verbose_name = _("model")
        verbose_name_plural = _("models")
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug

    @property
    def factor_basis_points(self) -> int:
        """The factor that turns a list price into the customer's."""
        own = self.price_factor_basis_points
        return self.vendor.price_factor_basis_points if own is None else own


class Alias(models.Model):
    """Another name that resolves to a model: an old id, or a family's name. Never a model's own id."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    name = models.CharField(_("name"), max_length=120, unique=True, validators=[_slug_of_model])
    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="aliases", verbose_name=_("model"))
    managed = models.BooleanField(_("from the catalog files"), default=False)

    class Meta:
        verbose_name = _("alias")
        verbose_name_plural = _("aliases")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


def _rate_field(label: Any) -> models.BigIntegerField[int | None, int | None]:
    return models.BigIntegerField(label, null=True, blank=True, validators=[MinValueValidator(0)])


class Price(models.Model):
    """One version of a model's price. Versions are added, never changed: holds and receipts name the one they used.

    Rates are microcredits per million tokens; NULL is "not set", which is not zero. ``list_prices`` are the vendor's
    own, in the same units, to show beside. A database trigger refuses deletions and, but for note and guess, updates.
    """

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="prices", verbose_name=_("model"))
    version = models.PositiveIntegerField(_("version"))
    effective_since = models.DateTimeField(_("effective since"), default=clock.now)
    input_microcredits_per_mtok = _rate_field(_("input"))
    cached_input_microcredits_per_mtok = _rate_field(_("cached input"))
    cache_write_5m_microcredits_per_mtok = _rate_field(_("cache write, 5 minutes"))
    cache_write_1h_microcredits_per_mtok = _rate_field(_("cache write, 1 hour"))
    output_microcredits_per_mtok = _rate_field(_("output"))
    audio_input_microcredits_per_mtok = _rate_field(_("audio input"))
    audio_output_microcredits_per_mtok = _rate_field(_("audio output"))
    long_context = models.JSONField(_("long-context tiers"), default=list, blank=True)
    service_tiers = models.JSONField(_("service-tier rates"), default=dict, blank=True)
    server_tools = models.JSONField(_("server tools, a use"), default=dict, blank=True)
    unit = models.CharField(_("unit"), max_length=16, blank=True, choices=[(word, word) for word in codec.UNITS])
    unit_prices = models.JSONField(_("unit prices by tier"), default=dict, blank=True)
    list_prices = models.JSONField(_("list prices"), default=dict, blank=True)
    factor_basis_points = models.PositiveIntegerField(_("factor used"), default=10_000)
    guess = models.BooleanField(_("guess"), default=False, help_text=_("No price list names this model."))
    note = models.CharField(_("note"), max_length=500, blank=True)
    managed = models.BooleanField(_("from the catalog files"), default=False)

    class Meta:
        verbose_name = _("price")
        verbose_name_plural = _("prices")
        ordering = ["model", "-version"]
        constraints = [
            models.UniqueConstraint(fields=["model", "version"], name="catalog_price_version_once"),
            models.CheckConstraint(condition=Q(version__gte=1), name="catalog_price_version_positive"),
            models.CheckConstraint(
                condition=Q(unit="", unit_prices={}) | (~Q(unit="") & ~Q(unit_prices={})),
                name="catalog_price_unit_with_prices",
            ),
        ] + [
            models.CheckConstraint(
                condition=Q(**{f"{bucket}_microcredits_per_mtok__isnull": True})
                | Q(**{f"{bucket}_microcredits_per_mtok__gte": 0}),
                name=f"catalog_price_{bucket}_not_negative",
            )
            for bucket in BUCKETS
        ]

    def __str__(self) -> str:
        return f"{self.model_id} v{self.version}"

    @property
    def rates(self) -> Rates:
        """The price as the value that ``pricing.charge`` takes."""
        return Rates(
            tokens=TokenRates(**{bucket: getattr(self, f"{bucket}_microcredits_per_mtok") for bucket in BUCKETS}),
            long_context=codec.long_context_from_json(self.long_context),
            service_tiers=codec.service_tiers_from_json(self.service_tiers),
            server_tools=codec.prices_from_json(self.server_tools, "server_tools"),
            unit=self.unit,
            unit_prices=codec.prices_from_json(self.unit_prices, "unit_prices"),
        )


class Target(models.Model):
    """One place in a model's chain: a provider, what it calls the model, and where in the order it stands."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="targets", verbose_name=_("model"))
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="targets", verbose_name=_("provider"))
    upstream_model = models.CharField(_("upstream model"), max_length=200)
    region = models.CharField(_("region"), max_length=64, blank=True)
    position = models.PositiveSmallIntegerField(_("position"), default=0)
    enabled = models.BooleanField(_("enabled"), default=True)
    managed = models.BooleanField(_("from the catalog files"), default=False)

    class Meta:
        verbose_name = _("target")
        verbose_name_plural = _("targets")
        ordering = ["model", "position"]
        constraints = [
            models.UniqueConstraint(
                fields=["model", "provider", "upstream_model", "region"], name="catalog_target_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.upstream_model} @ {self.provider_id}"
