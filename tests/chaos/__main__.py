"""Run chaos at length and write what it came to: `make chaos`, `make chaos SCALE=1 SEED=7`.

Every line has numerator and denominator. A smaller count is never called the same claim: the counts of a full run
stand beside those of this one.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.audit import sqlite_is_sound
from tests.chaos.fuzz import fuzz
from tests.chaos.ingest import ingest_under_kills
from tests.chaos.network import cut_connections, many_connections, refuse_many, slow_peers
from tests.chaos.results import results_under_kills
from tests.chaos.storm import duplicate_storm

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "docs" / "chaos.md"


@dataclass(frozen=True)
class Line:
    """One claim, as it was measured."""

    claim: str
    measured: str
    holds: bool


class Run:
    """Counts of this run, and where it works."""

    def __init__(self, scale: float, seed: int, folder: Path) -> None:
        self.scale = scale
        self.seed = seed
        self._folder = folder
        self._number = 0

    def count(self, full: int, *, least: int = 1) -> int:
        """Scale a count of the full run."""
        return max(least, round(full * self.scale))

    def folder(self) -> Path:
        """Give a folder of its own."""
        self._number += 1
        made = self._folder / str(self._number)
        made.mkdir()
        return made


def ingest(run: Run) -> Iterator[Line]:
    """Kills of everything while senders send."""
    folder = run.folder()
    kills = run.count(200)
    done = ingest_under_kills(folder, kills=kills, senders=4, seed=run.seed)
    found, acknowledged = done.found, done.found.acknowledged
    for name, wrong in (("lost", found.lost), ("altered", found.altered), ("phantom", found.phantom)):
        yield Line(
            f"Ingest, {kills} of 200 kills of the whole process group, 4 senders: {name}",
            f"{len(wrong)} of {acknowledged} acknowledged",
            not wrong,
        )
    yield Line(
        "… sent again after Success: set aside as another",
        f"{len(found.doubled)} of {done.sent.repeats}",
        not found.doubled,
    )
    yield Line("… files without a row, to be taken in an hour later", f"{len(found.orphans)} after {kills} kills", True)
    yield Line(
        "… ledger; SQLite's integrity check",
        done.ledger,
        done.ledger == "0 unexplained" and sqlite_is_sound(folder / "data"),
    )
    yield Line("… slowest start after a kill", f"{done.slowest_start_s:.1f} s", True)


def results(run: Run) -> Iterator[Line]:
    """Kills of each role, of the supervisor and of everything, in each phase."""
    studies = run.count(50)
    done = results_under_kills(run.folder(), studies=studies, seed=run.seed, say=_say)
    kills = sum(done.kills.values())
    phases = ", ".join(f"{phase} {count}" for phase, count in sorted(done.kills.items()))
    victims = ", ".join(f"{victim} {count}" for victim, count in sorted(done.victims.items()))
    yield Line(
        f"Results, {kills} of 200 kills ({phases}; {victims}): studies with one result set, identical bytes at the PACS, no extra UID, confirmed by storage commitment",
        f"{done.studies - len(done.problems)} of {done.studies}",
        not done.problems,
    )
    for problem in sorted(each for problems in done.problems.values() for each in problems):
        yield Line("… what is not as it should be", problem, False)
    yield Line("… receptions for those objects, repeats included", f"{done.receptions} for {2 * done.studies}", True)
    yield Line("… ledger", done.ledger, done.ledger == "0 unexplained")


def network(run: Run) -> Iterator[Line]:
    """Cut, slow, many and refused connections."""
    count = run.count(500)
    cuts = cut_connections(run.folder(), count=count, seed=run.seed)
    assert cuts.found is not None
    kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(cuts.cuts.items()))
    wrong = len(cuts.found.lost) + len(cuts.found.phantom) + cuts.incoming
    yield Line(
        f"C-STORE in, {sum(cuts.cuts.values())} of 500 cuts at random bytes ({kinds}): lost, phantom or half-written",
        f"{wrong} of {len(cuts.acknowledged)} acknowledged",
        wrong == 0,
    )
    yield Line("… descriptors and threads back within", f"{cuts.freed_within_s:.1f} s", cuts.freed_within_s <= 30)
    slow = slow_peers(run.folder(), half_open=200, dripping=50, stores=200, patience_s=20.0)
    yield Line(
        "200 half-open and 50 dripping connections: all ended within",
        f"{slow.gone_within_s:.1f} s",
        slow.gone_within_s <= 30,
    )
    yield Line(
        "… C-STORE p95 beside them, against without",
        f"{slow.p95_ms:.1f} ms, {slow.baseline_p95_ms:.1f} ms",
        slow.p95_ms <= 2 * slow.baseline_p95_ms,
    )
    many = run.count(10_000)
    leak = many_connections(run.folder(), associations=many, bare=many, aborts=run.count(1000), queries=run.count(2000))
    grown = leak.after.rss_mb - leak.before.rss_mb
    yield Line(
        f"{many} of 10,000 associations, {many} of 10,000 bare connects, {leak.aborts} of 1,000 aborts, {leak.queries} of 2,000 "
        "associations for queries: memory grown by",
        f"{grown:.1f} MB (bound 20); threads {leak.before.threads} → {leak.after.threads}, descriptors "
        f"{leak.before.descriptors} → {leak.after.descriptors}",
        grown <= 20 and leak.after.threads <= leak.before.threads and leak.after.sockets <= leak.before.sockets,
    )
    refused = refuse_many(run.folder(), count=1000)
    yield Line(
        "1,000 refused associations: CPU of the receiver each",
        f"{refused.cpu_ms_each:.2f} ms (bound 5)",
        refused.cpu_ms_each <= 5,
    )


def storm(run: Run) -> Iterator[Line]:
    """The same study from many at once."""
    rounds = run.count(10)
    done = duplicate_storm(run.folder(), senders=16, instances=500, rounds=rounds, seed=run.seed)
    holds = (done.studies, done.inputs, done.decisions, done.findings) == (1, 500, 1, 1) and done.found.clean
    yield Line(
        f"500 instances from 16 senders at once, {rounds} of 10 rounds, {done.sent} sends",
        f"{done.studies} study, {done.inputs} instances, {done.findings} inference; {done.statuses.get(0, 0)} answered Success",
        holds and done.statuses == {0: done.sent},
    )


def fuzzing(run: Run) -> Iterator[Line]:
    """Mutated data sets and PDUs."""
    data_sets, associations = run.count(20_000), run.count(20_000)
    done = fuzz(run.folder(), data_sets=data_sets, associations=associations, seed=run.seed)
    assert done.before is not None
    assert done.after is not None
    statuses = ", ".join(f"0x{status:04X} {count}" for status, count in sorted(done.statuses.items()))
    yield Line(
        f"{data_sets} of 20,000 mutated data sets ({statuses}), {associations} of 20,000 mutated associations: deaths, faults of ours",
        f"{done.deaths}, {done.unexpected}",
        not done.deaths and not done.unexpected,
    )
    yield Line(
        "… slowest answer; slowest C-ECHO in between",
        f"{done.slowest_s:.2f} s; {done.slowest_echo_s:.2f} s",
        done.slowest_s <= 5 and done.slowest_echo_s <= 1,
    )
    grown = done.after.rss_mb - done.before.rss_mb
    yield Line("… memory grown by", f"{grown:.1f} MB (bound 50)", grown <= 50)
    yield Line("… ledger", done.ledger, done.ledger == "0 unexplained")


PARTS: dict[str, Callable[[Run], Iterator[Line]]] = {
    "ingest": ingest,
    "results": results,
    "network": network,
    "storm": storm,
    "fuzzing": fuzzing,
}


def main() -> int:
    """Run what was asked for; the exit status tells whether every claim holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=0.1, help="share of the full counts")
    parser.add_argument("--seed", type=int, default=20261124)
    parser.add_argument("--only", choices=PARTS, nargs="*", default=list(PARTS))
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no node outlives a run that is stopped
    began, lines = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        run = Run(given.scale, given.seed, Path(folder))
        for name in given.only:
            _say(f"{name} …")
            try:
                for line in PARTS[name](run):
                    _say(f"  {'ok ' if line.holds else 'NOT'} {line.claim}: {line.measured}")
                    lines.append(line)
            except AssertionError as error:
                lines.append(Line(f"{name} came to its end", f"no: {str(error)[:200]}", False))
                _say(f"  NOT {lines[-1].measured}")
            RECORD.write_text(record(lines, given.scale, given.seed, time.monotonic() - began))
    return 0 if all(line.holds for line in lines) else 1


def record(lines: list[Line], scale: float, seed: int, seconds: float) -> str:
    """Write down a run."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    head = (
        "# Chaos record\n\n"
        "What `make chaos` measured: the node as a process, killed, cut off, flooded and fed with rubbish over the wire; then its\n"
        "database and files compared with what was acknowledged. `SCALE=1` runs the full counts. The small counts here are not the\n"
        "full claim. A kill is no power cut: that rests on the order of syncs, which `tests/acceptance/test_order_of_durability.py`\n"
        "traces for every store.\n\n"
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit.stdout.strip()}, scale {scale:g}, seed {seed}, {seconds / 60:.0f} min, "
        f"{os.cpu_count()} cores ({platform.machine()}, load {os.getloadavg()[0]:.0f}), Python {platform.python_version()}, SQLite.\n\n"
        "| claim | measured | holds |\n|---|---|---|\n"
    )
    return head + "".join(
        f"| {line.claim} | {line.measured} | {'yes' if line.holds else '**no**'} |\n" for line in lines
    )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
