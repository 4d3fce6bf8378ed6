"""What every engine is to the node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from inference.findings import Code, Findings
from inference.volume import Volume


@dataclass(frozen=True)
class SeriesNeeds:
    """Which series an engine can read, and which it prefers."""

    modalities: tuple[str, ...]
    minimum_slices: int
    thickest_mm: float
    """Slices thicker than this are declined."""
    not_of: tuple[str, ...] = ()
    """Body Part Examined of series that it cannot read; what says nothing is looked at."""


@dataclass(frozen=True)
class EngineDescription:
    """Who an engine is, as every object it leads to says."""

    name: str
    """As routes name it, such as `classical-lung`."""
    version: str
    kind: Literal["classical", "model"]
    title: str
    """What it makes, for series descriptions: `Lung`."""
    manufacturer: str
    family: Code
    """Algorithm family (CID 7162)."""
    digest: str
    """Hex SHA-256 over the weights, or over the algorithm's parameters."""
    reads: SeriesNeeds
    parameters: tuple[tuple[str, str], ...] = ()


class Engine(Protocol):
    """One model or algorithm, ready to read volumes."""

    @property
    def description(self) -> EngineDescription:
        """Who it is."""
        ...

    def analyse(self, volume: Volume) -> Findings:
        """Read one volume and say what is in it.

        Parameters
        ----------
        volume
            `volume.array`: (slices, rows, columns), HU for CT.
            `volume.affine`: 4x4, (slice, row, column) index → patient LPS, mm.

        Returns
        -------
        Findings
            Every mask is bool and has the volume's own shape.

        Raises
        ------
        UnsuitableStudy
            The engine cannot read this volume; trying again will not help.
        EngineUnavailable
            The device or the weights are missing; try later.

        Source: PS3.3 C.7.6.2.1.1 (patient coordinates), C.11.1 (rescale).
        """
        ...
