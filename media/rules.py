"""What a model's rules say about one request. Pure; a broken rule is InvalidRequest with ``param``."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from catalog.entries import ModelEntry
from catalog.media import References
from catalog.resolve import shown
from core.errors import InvalidRequest
from upstreams.images import Source


def choice(entry: ModelEntry, param: str, value: str, offered: Sequence[str]) -> str:
    """``value`` as the catalog spells it, empty where nothing was asked for. Raises InvalidRequest."""
    if not value:
        return ""
    for each in offered:
        if each.casefold() == value.casefold():
            return each
    if not offered:
        raise InvalidRequest(
            f"{entry.slug} takes no {param}.{_instead(entry)}", param=param, code=f"{param}_not_offered"
        )
    raise InvalidRequest(
        f"{entry.slug} does not offer the {param} '{shown(value)}'. It offers: {', '.join(offered)}.",
        param=param,
        code=f"{param}_not_offered",
        extra={f"available_{param.removesuffix('y')}{'ies' if param.endswith('y') else 's'}": list(offered)},
    )


def check_references(entry: ModelEntry, sources: Sequence[Source], allowed: References | None) -> None:
    """Whether these may come with a prompt: how many, and of which kinds. What was uploaded is as good as any kind."""
    if not sources:
        return
    param = sources[0].member
    if allowed is None or not allowed.maximum:
        raise InvalidRequest(f"{entry.slug} takes no reference images.", param=param, code="references_not_offered")
    if len(sources) > allowed.maximum:
        raise InvalidRequest(
            f"{entry.slug} takes at most {allowed.maximum} reference images.", param=param, code="too_many_references"
        )
    for source in sources:
        if source.kind != "upload" and source.kind not in allowed.kinds:
            wanted = "public https:// URLs" if allowed.kinds == ("https",) else "base64 data URLs"
            raise InvalidRequest(
                f"{entry.slug} takes reference images as {wanted} only.",
                param=source.member,
                code="reference_kind_not_offered",
            )


def same_shape(size: str, aspect_ratio: str) -> bool:
    """Whether a size in pixels has that ratio."""
    return ratio_of(size) == Fraction(*map(int, aspect_ratio.split(":")))


def ratio_of(size: str) -> Fraction:
    """Width to height of WIDTHxHEIGHT."""
    return Fraction(*map(int, size.split("x")))


def _instead(entry: ModelEntry) -> str:
    rules = entry.media
    named = {"size": rules.sizes, "aspect_ratio": rules.aspect_ratios, "resolution": rules.resolutions}
    words = [name for name, offered in named.items() if offered]
    return f" Use {' and '.join(words)}." if words else ""
