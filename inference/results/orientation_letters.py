"""Letters at the edges of an image: which side of the patient lies there.

Source: PS3.3 C.7.6.1.1.1 (Patient Orientation).
"""

from __future__ import annotations

from pydicom import Dataset

from inference.results.elements import numbers

#: Letters of the ends of the patient axes LPS: towards positive, towards negative.
_ENDS = (("L", "R"), ("P", "A"), ("H", "F"))
_OPPOSITE = {"L": "R", "R": "L", "P": "A", "A": "P", "H": "F", "F": "H"}
#: A direction belongs to a further axis too from this share on (sine of about 15 degrees).
_SHARE = 0.26


def edge_letters(header: Dataset) -> tuple[str, str, str, str] | None:
    """Give the letters of the left, right, upper and lower edge of an image; None: the header does not say."""
    cosines = numbers(header, "ImageOrientationPatient", 6)
    if cosines is not None:
        right, lower = _letters(cosines[:3]), _letters(cosines[3:])
    else:
        said = header.get("PatientOrientation")
        if said is None or isinstance(said, str) or len(said) != 2:
            return None
        right, lower = (str(each).strip() for each in said)
    if not right or not lower or not (set(right) | set(lower)) <= set(_OPPOSITE):
        return None
    return _turned(right), right, _turned(lower), lower


def _letters(direction: tuple[float, ...]) -> str:
    strongest = sorted(range(3), key=lambda axis: -abs(direction[axis]))
    shown = [axis for axis in strongest if abs(direction[axis]) > _SHARE]
    return "".join(_ENDS[axis][direction[axis] < 0] for axis in shown)


def _turned(letters: str) -> str:
    return "".join(_OPPOSITE[letter] for letter in letters)
