"""Which runs a job comes to: one on the fittest series, or one on each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydicom import Dataset

from inference.engines.protocol import SeriesNeeds
from inference.errors import UnsuitableStudy
from inference.series import CandidateSeries, choose_series
from storage.records import InstanceRecord, JobRecord


@dataclass(frozen=True)
class Selection:
    """What one run looks at."""

    task: str
    """Task under which revisions count: each series of its own where every series is read."""
    inputs: tuple[InstanceRecord, ...]
    """What the run key is made over."""
    declined: str = ""
    """Why nothing is read; empty: the inputs are read as one volume."""
    looked_at: tuple[InstanceRecord, ...] = ()
    """Of a declined selection: the instances whose headers were looked at."""


def select(
    job: JobRecord, series: Mapping[str, Sequence[InstanceRecord]], headers: Mapping[str, Dataset], needs: SeriesNeeds
) -> tuple[Selection, ...]:
    """Tell what to run.

    Parameters
    ----------
    series
        Series Instance UID → its inputs; not empty.
    headers
        Series Instance UID → header of its first input.
    """
    if job.selection == "best":
        return (_fittest(job.task, series, headers, needs),)
    return tuple(
        _fittest(task_of_series(job.task, uid), {uid: inputs}, headers, needs) for uid, inputs in series.items()
    )


def task_of_series(task: str, series_instance_uid: str) -> str:
    """Name the task on one series among several: each has revisions of its own."""
    return f"{task}/{hashlib.sha256(series_instance_uid.encode()).hexdigest()[:12]}"


def _fittest(
    task: str, series: Mapping[str, Sequence[InstanceRecord]], headers: Mapping[str, Dataset], needs: SeriesNeeds
) -> Selection:
    candidates = [CandidateSeries(uid, headers[uid], len(inputs)) for uid, inputs in series.items()]
    try:
        chosen = choose_series(candidates, needs)
    except UnsuitableStudy as error:
        considered = tuple(instance for inputs in series.values() for instance in inputs)
        return Selection(task, considered, str(error), tuple(inputs[0] for inputs in series.values()))
    return Selection(task, tuple(series[chosen.series_instance_uid]))
