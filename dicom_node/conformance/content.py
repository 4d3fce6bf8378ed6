"""Character sets, security, how long is kept."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.charset import python_encoding

from dicom_node.conformance.markdown import table
from inference.results.charset import UTF_8


def sections() -> Iterator[str]:
    """Give the sections."""
    yield _character_sets()
    yield _security()
    yield _keeping()


def _character_sets() -> str:
    read = sorted(label for label in python_encoding if label)
    return (
        "Character sets\n\n"
        + table(
            ("direction", "Specific Character Set"),
            (
                ("read, alone or with code extensions", ", ".join(f"`{label}`" for label in read)),
                ("written in objects made", f"that of the source where it holds every character, else `{UTF_8[0]}`"),
            ),
        )
        + "\nStored bytes are never changed. For matching, values are decoded to Unicode; a label that is not known"
        " counts as the default repertoire, and the instance is kept all the same.\n"
    )


def _security() -> str:
    return (
        "Security\n\nShipped, DIMSE and HTTP listen on the machine itself only. Peers are known by AE title and"
        " address, and over TLS by certificate (see secure transport). HTTP asks for a key"
        " (`Authorization: Bearer` or Basic) on every other bind than the machine's own. Attributes of patients are"
        " not written to the log.\n"
    )


def _keeping() -> str:
    return (
        "How long instances are kept\n\nNothing is deleted by itself. Success to a C-STORE means that the instance is"
        " on disk and in the index. Storage commitment is not offered unless it is listed under the services above.\n"
    )
