"""The indexed attributes of an instance as pydicom alone decodes them: what ours is compared with."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset
from pydicom.multival import MultiValue

from storage.errors import UnreadableInstance
from storage.header import fold, is_uid

_ESCAPES = re.compile("\x1b(?:\\$[()]?.|[()-].)")


@dataclass(frozen=True)
class PydicomHeader:
    """The indexed attributes of one instance."""

    dataset: Dataset
    """Only what the index wants, decoded when asked for."""
    has_pixels: bool
    note: str = ""
    """Where its text is not read as its Specific Character Set says; without text of the instance."""

    @property
    def study_instance_uid(self) -> str:
        """Study Instance UID, checked."""
        return self.uid("StudyInstanceUID")

    @property
    def series_instance_uid(self) -> str:
        """Series Instance UID, checked."""
        return self.uid("SeriesInstanceUID")

    def uid(self, keyword: str) -> str:
        """Give a UID, without padding.

        Raises
        ------
        UnreadableInstance
            It is missing or malformed: such an instance cannot be found again.
        """
        # Some senders pad UIDs with a space, not NUL (PS3.5 6.2 asks for NUL). Both are stripped.
        uid = self._text(keyword).rstrip("\0 ")
        if not is_uid(uid):
            raise UnreadableInstance(f"{keyword} is missing or malformed.", keyword=keyword)
        return uid

    def text(self, keyword: str) -> str:
        """Give an attribute as text, several values joined by a backslash; empty where there is none."""
        text: str = _storable(self._text(keyword)).strip()
        return text

    def _text(self, keyword: str) -> str:
        value = self._value(keyword)
        if value is None:
            return ""
        try:
            each = value if isinstance(value, MultiValue) else [value]
            return "\\".join(str(one).strip() for one in each)
        except Exception:  # noqa: BLE001 (a name is decoded when it is asked for, and may be broken as any value)
            return ""

    def number(self, keyword: str) -> int | None:
        """Give an integer attribute; None where there is none or no number."""
        try:
            return int(self.text(keyword))
        except ValueError:
            return None

    def json(self, keywords: tuple[str, ...]) -> str:
        """Give the named attributes as DICOM JSON text; one that cannot be written is left out.

        Source: PS3.18 Annex F.
        """
        written: dict[str, Any] = {}
        for keyword in keywords:
            if self._value(keyword) is None:
                continue
            element = self.dataset[keyword]
            try:
                written[f"{element.tag:08X}"] = _storable(element.to_json_dict(None, 1 << 30))
            except Exception:  # noqa: BLE001, S112 (a value that no JSON can hold; its instance is kept all the same)
                continue
        return json.dumps(written, ensure_ascii=False, separators=(",", ":"))

    def patient(self) -> str:
        """Say whom the instance is of, for comparison: JSON list of ID, issuer, name, birth date, sex, normalised."""
        name = "^".join(part.strip() for part in fold(self.text("PatientName")).split("^")).rstrip("^= ")
        others = (self.text(word) for word in ("PatientID", "IssuerOfPatientID"))
        rest = (self.text(word).casefold() for word in ("PatientBirthDate", "PatientSex"))
        return json.dumps([*others, name, *rest], ensure_ascii=False)

    def _value(self, keyword: str) -> Any:
        try:
            return self.dataset.get(keyword)
        except Exception:  # noqa: BLE001 (any broken value; the instance is kept all the same)
            return None


def _storable(value: Any) -> Any:
    """Give text, however deep, in normal form C, without what PostgreSQL holds nowhere: NUL; and halves of code points.

    The same letter may come as one character or as a letter and its accent; matching must not tell them apart.
    """
    if isinstance(value, str):
        value = _ESCAPES.sub("", value) if "\x1b" in value else value
        return unicodedata.normalize("NFC", value.replace("\0", "").encode("utf-8", "replace").decode("utf-8"))
    if isinstance(value, dict):
        return {name: _storable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_storable(each) for each in value]
    return value
