"""Pictures in the format that a caller asked for, where a provider draws in one of its own. Pure.

It takes CPU time, tens of megapixels about a second: call it off the event loop.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from upstreams.images import image_type

#: By OpenAI's word for a format.
CONTENT_TYPES: Final[Mapping[str, str]] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
#: Above this a JPEG only grows.
USUAL_QUALITY: Final = 95
#: More than any model draws; a small file can unfold to much more.
_MOST_PIXELS: Final = 40_000_000
#: What a provider may have drawn in: readers of other formats are not let near a stranger's bytes.
_READ: Final = ("PNG", "JPEG", "WEBP", "GIF")
_WHITE: Final = (255, 255, 255)


class NotConverted(Exception):
    """The picture can't be had in that format: it can't be read, or is too large."""


@dataclass(frozen=True, slots=True)
class Finish:
    """How a picture is to be handed out. ``format`` is png, jpeg or webp, empty for whatever it came in.

    ``quality`` is a percentage, for the two formats that have one.
    """

    format: str = ""
    quality: int = USUAL_QUALITY

    def fits(self, content_type: str) -> bool:
        """Whether a picture of that type may stay as it is."""
        return not self.format or CONTENT_TYPES[self.format] == content_type

    def applied(self, data: bytes) -> bytes:
        """The picture in this format; what is transparent becomes white where it knows no transparency.

        Raises NotConverted.
        """
        if self.fits(image_type(data) or ""):
            return data
        from PIL import Image  # a second of the gateway's start, for what few callers ask for

        try:
            with Image.open(io.BytesIO(data), formats=_READ) as image:
                if image.width * image.height > _MOST_PIXELS:
                    raise NotConverted("the picture has too many pixels")
                see_through = image.has_transparency_data
                drawn = image.convert("RGBA" if see_through else "RGB")
                if see_through and self.format == "jpeg":
                    paper = Image.new("RGB", drawn.size, _WHITE)
                    paper.paste(drawn, mask=drawn)
                    drawn = paper
                return self._written(drawn, image.info.get("icc_profile"))
        except NotConverted:
            raise
        except Exception as error:  # whatever a decoder of strangers' bytes stumbles over
            raise NotConverted(f"the picture can't be read: {type(error).__name__}") from None

    def _written(self, drawn: object, profile: bytes | None) -> bytes:
        from PIL import Image

        assert isinstance(drawn, Image.Image)
        options = {} if self.format == "png" else {"quality": self.quality}
        out = io.BytesIO()
        drawn.save(out, format=self.format.upper(), icc_profile=profile, **options)
        return out.getvalue()
