"""Pictures that are no DICOM: photographs, scans, screenshots. For the limited child process alone."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from inference.errors import UnreadablePixels


def plain_png(content: BinaryIO, forms: Sequence[str], *, longest_side: int, most_pixels: int) -> bytes:
    """Give a picture as an 8-bit grey or RGB PNG; of an animation, the first frame. Only its pixels come over.

    Parameters
    ----------
    forms
        That it may have, as Pillow names them.
    longest_side
        Pixels that it is shrunk to.
    most_pixels
        That it may have, which is looked at before any is decoded.

    Raises
    ------
    UnreadablePixels
        It is of none of the forms, is too large, or is broken.
    """
    Image.MAX_IMAGE_PIXELS = most_pixels
    try:
        image: Image.Image = Image.open(content, formats=list(forms))
        if image.width * image.height > most_pixels:
            raise UnreadablePixels(f"The picture has more than {most_pixels // 1_000_000} million pixels.")
        image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadablePixels(f"The picture has more than {most_pixels // 1_000_000} million pixels.") from error
    except UnidentifiedImageError as error:
        raise UnreadablePixels("The picture is of another form than is said, or of none.") from error
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for broken files
        raise UnreadablePixels("The picture is broken.") from error
    image = ImageOps.exif_transpose(image)
    image = _eight_bit(image)
    image.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _eight_bit(image: Image.Image) -> Image.Image:
    """Make it grey or RGB; what is transparent becomes white, and deep grey keeps its upper bits."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))
    if image.mode in ("1", "L"):
        return Image.fromarray(np.asarray(image.convert("L")))
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        white = Image.new("RGBA", seen.size, "white")
        return Image.fromarray(np.asarray(Image.alpha_composite(white, seen).convert("RGB")))
    return Image.fromarray(np.asarray(image.convert("RGB")))
