"""What every association of this node has in common, whichever side asked for it."""

from __future__ import annotations

import re

from pynetdicom import AE, _config

from configs.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

#: Source: PS3.5 6.2 (AE: 1 to 16 characters of the default repertoire, no control characters, no backslash).
_AE_TITLE = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}")
_OUTSIDE = re.compile(r"[^\x20-\x5b\x5d-\x7e]")


def is_ae_title(text: str) -> bool:
    """Tell whether DICOM allows this AE title."""
    return _AE_TITLE.fullmatch(text) is not None and not text.isspace()


def printable_ae_title(text: str) -> str:
    """Give an AE title that may be shown and kept: characters that DICOM forbids become `?`."""
    return _OUTSIDE.sub("?", text.strip(" "))[:16]


def application_entity(ae_title: str) -> AE:
    """Make a pynetdicom application entity that says who we are.

    It sets two options of pynetdicom, which hold for the whole process: no log line per PDU (they cost time
    and may quote data sets), and what is sent from a file is sent as it stands there.
    """
    _config.LOG_HANDLER_LEVEL = "none"
    _config.STORE_SEND_CHUNKED_DATASET = True
    entity = AE(ae_title=ae_title)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return entity
