"""Which studies go to which engine, as `routes.yaml` says it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveInt, model_validator
from pydicom.datadict import tag_for_keyword

from configs.engines import EngineName
from configs.patterns import check_pattern
from configs.section import Section

Scalar = str | int | float


@dataclass(frozen=True)
class AnyValue:
    """One of the values holds; text is a glob (`CT*`), compared without regard to case."""

    values: tuple[Scalar, ...]


@dataclass(frozen=True)
class Within:
    """A number between the bounds, both included."""

    minimum: float | None
    maximum: float | None


@dataclass(frozen=True)
class Present:
    """The attribute is there with a value (or is not)."""

    present: bool


@dataclass(frozen=True)
class Has:
    """One of several values of the attribute matches the glob."""

    value: Scalar


@dataclass(frozen=True)
class Matches:
    """A regular expression is found in one of the values."""

    pattern: str


Operator = AnyValue | Within | Present | Has | Matches


@dataclass(frozen=True)
class Term:
    """One attribute of study, series or sender, and what must hold of it."""

    name: str
    """DICOM keyword, or `sender`, `calling_ae_title`, `called_ae_title`."""
    operator: Operator


@dataclass(frozen=True)
class AllOf:
    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class AnyOf:
    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class Not:
    condition: Condition


Condition = Term | AllOf | AnyOf | Not

_OPERATORS = "{min, max}, {present: true}, {has: value} and {matches: expression}"

#: Names that rules know beside DICOM keywords.
SENDER_TERMS = frozenset({"sender", "calling_ae_title", "called_ae_title"})


def parse_condition(raw: Any, path: str = "when") -> Condition:
    """Read one condition; a `ValueError` names the path of what is wrong."""
    if not isinstance(raw, dict) or len(raw) != 1:
        raise ValueError(f"{path}: write one name and what must hold of it, such as {{Modality: CT}}")
    ((name, value),) = raw.items()
    if name in ("all", "any"):
        if not isinstance(value, list):
            raise ValueError(f"{path}.{name}: write a list of conditions")
        parts = tuple(parse_condition(part, f"{path}.{name}[{index}]") for index, part in enumerate(value))
        return AllOf(parts) if name == "all" else AnyOf(parts)
    if name == "not":
        return Not(parse_condition(value, f"{path}.not"))
    if name not in SENDER_TERMS and not tag_for_keyword(str(name)):
        raise ValueError(f"{path}.{name}: no such DICOM keyword")
    return Term(str(name), _parse_operator(value, f"{path}.{name}"))


def _parse_operator(raw: Any, path: str) -> Operator:
    if isinstance(raw, dict):
        return _parse_operator_map(raw, path)
    values = raw if isinstance(raw, list) else [raw]
    if not values or not all(_is_scalar(value) for value in values):
        raise ValueError(f"{path}: write a value, a list of values, or an operator: {_OPERATORS}")
    return AnyValue(tuple(values))


def _parse_operator_map(raw: dict[Any, Any], path: str) -> Operator:
    keys = set(raw)
    if keys and keys <= {"min", "max"}:
        if not all(isinstance(bound, int | float) and not isinstance(bound, bool) for bound in raw.values()):
            raise ValueError(f"{path}: min and max are numbers")
        return Within(raw.get("min"), raw.get("max"))
    if keys == {"present"} and isinstance(raw["present"], bool):
        return Present(raw["present"])
    if keys == {"has"} and _is_scalar(raw["has"]):
        return Has(raw["has"])
    if keys == {"matches"}:
        try:
            return Matches(check_pattern(raw["matches"]))
        except ValueError as error:
            raise ValueError(f"{path}.matches: {error}") from error
    raise ValueError(f"{path}: unknown operator; there are {_OPERATORS}")


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


class Priority(StrEnum):
    """How urgent a job is. Source: PS3.3 C.4.11 (Requested Procedure Priority)."""

    STAT = "stat"
    HIGH = "high"
    ROUTINE = "routine"
    LOW = "low"

    @property
    def rank(self) -> int:
        """Order in the queue: the lowest goes first."""
        return _RANKS[self]


_RANKS = {Priority.STAT: 10, Priority.HIGH: 50, Priority.ROUTINE: 100, Priority.LOW: 200}

When = Annotated[Condition, BeforeValidator(parse_condition)]


class RequiredSeries(Section):
    """A series that a rule waits for; when all are here without gaps, the study is taken at once."""

    when: When
    images: PositiveInt
    """At least so many; more come without a gap between them or are late."""


class PriorsWanted(Section):
    """Which earlier studies of the patient a rule asks for."""

    sources: Annotated[tuple[str, ...], Field(alias="from", min_length=1)]
    """Names of peers, asked in this order; each has `priors` among what the node may ask of it."""
    modalities: Annotated[tuple[str, ...], Field(min_length=1)]
    """Only studies that have one of these."""
    same_body_part: bool = False
    """Only series whose Body Part Examined is that of the study."""
    within_days: PositiveInt = 1825
    studies: Annotated[int, Field(ge=1, le=20)] = 2
    """At most so many, the latest first."""
    instances: PositiveInt = 5000
    """At most so many for one study in all; a series that goes beyond is left out."""


class Route(Section):
    """One rule: which series of which studies go to which engine, where its results go, and who gets the originals."""

    name: str
    engine: EngineName | None = None
    """None: a rule that sends originals on and asks no engine."""
    task: str = "default"
    when: When = AllOf(())
    series: Literal["best", "all", "each"] = "best"
    requires: tuple[RequiredSeries, ...] = ()
    """Evidence that the study is complete for this rule."""
    priority: Priority = Priority.ROUTINE
    at_most_per_hour: PositiveInt | None = None
    """Jobs of this rule that start within an hour; further ones wait. STAT is never held back."""
    priors: PriorsWanted | None = None
    deliver_to: tuple[str, ...] = Field(default=("sender",))
    deliver_refusals: bool = False
    originals_to: tuple[str, ...] = ()
    """Names of peers that get the study itself as it is kept, what they sent apart."""

    @model_validator(mode="after")
    def check_purpose(self) -> Self:
        if self.engine is None and not self.originals_to:
            raise ValueError("needs engine, or originals_to")
        return self
