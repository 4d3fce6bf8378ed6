"""Whether all images of a study are of one patient."""

from __future__ import annotations

from collections.abc import Iterable

#: What a patient key holds, in its order (`storage.tables.instances.patient`), as an administrator reads it.
PATIENT_KEY = ("Patient ID", "Issuer of Patient ID", "Patient's Name", "Patient's Birth Date", "Patient's Sex")
_ID = 0
_ISSUER = 1


def differing(keys: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Name the attributes by which the images of one study are of different patients.

    Only values that are there can differ: an empty one says nothing. An issuer counts beside an ID.

    Parameters
    ----------
    keys
        Distinct patient keys of the study's inputs: ID, issuer, name, birth date, sex, each normalised.

    Returns
    -------
    tuple
        Names of attributes, never their values; empty: one patient.
    """
    rows = list(keys)
    found = []
    for index, name in enumerate(PATIENT_KEY):
        values = {key[index] for key in rows if key[index] and (index != _ISSUER or key[_ID])}
        if len(values) > 1:
            found.append(name)
    return tuple(found)


def same_patient(keys: Iterable[tuple[str, ...]]) -> bool:
    """Tell whether nothing speaks against one patient."""
    return not differing(keys)


def quarantine_reason(attributes: tuple[str, ...]) -> str:
    """Say why a study is set apart, without patient data."""
    return (
        f"Set apart: its images differ in {_and(attributes)}. They may be of different patients, "
        "so nothing is analysed until somebody has looked."
    )


def _and(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
