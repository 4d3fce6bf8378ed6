"""Attribute matching against a plain reading of the standard, on many made-up values.

Source: PS3.4 C.2.2.2.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import date

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, literal, select
from sqlalchemy.engine import Engine

from storage.errors import MalformedQuery
from storage.matching import Key, Matcher, tag_path

FEW = st.text(alphabet="aAbB*?[]%_\\^ -1", max_size=8)
DATES = st.dates(min_value=date(1900, 1, 1)).map(lambda day: f"{day:%Y%m%d}")
TIMES = st.tuples(st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(2, 6)).map(
    lambda at: "{:02d}{:02d}{:02d}".format(*at[:3])[: at[3] // 2 * 2]
)

many = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """A database in memory."""
    made = create_engine("sqlite://")
    yield made
    made.dispose()


def matches(engine: Engine, keyword: str, wanted: str, value: str) -> bool:
    """Ask the database whether a kept value matches a key."""
    condition = Matcher("sqlite").text(literal(value), Key(tag_path(keyword), wanted))
    if condition is None:
        return True
    with engine.connect() as connection:
        return connection.execute(select(1).where(condition)).first() is not None


def by_wildcard(wanted: str, value: str) -> bool:
    """Match as PS3.4 C.2.2.2.4 says it."""
    if "*" not in wanted and "?" not in wanted:
        return wanted == value
    parts = ("[\\s\\S]*" if each == "*" else "[\\s\\S]" if each == "?" else re.escape(each) for each in wanted)
    return re.fullmatch("".join(parts), value) is not None


@many
@given(wanted=FEW, value=FEW)
def test_text_matches_as_the_standard_says(engine: Engine, wanted: str, value: str) -> None:
    each = [part.strip() for part in wanted.split("\\")]
    universal = any(not part.strip("*") for part in each)
    expected = universal or any(by_wildcard(part, value) for part in each)
    assert matches(engine, "StudyDescription", wanted, value) == expected


@many
@given(value=DATES, first=DATES, last=DATES)
def test_a_date_is_in_a_range_with_both_its_ends(engine: Engine, value: str, first: str, last: str) -> None:
    assert matches(engine, "StudyDate", f"{first}-{last}", value) == (first <= value <= last)
    assert matches(engine, "StudyDate", f"{first}-", value) == (first <= value)
    assert matches(engine, "StudyDate", f"-{last}", value) == (value <= last)
    assert matches(engine, "StudyDate", first, value) == (first == value)


@many
@given(value=TIMES, first=TIMES, last=TIMES)
def test_a_time_of_any_precision_is_in_a_range_that_covers_it(
    engine: Engine, value: str, first: str, last: str
) -> None:
    """A shorter value stands for all that it may begin: 10 is 10:00:00 to 10:59:59."""
    earliest, latest = value.ljust(6, "0"), last + "595959"[len(last) :]
    expected = first.ljust(6, "0") <= earliest <= latest
    assert matches(engine, "StudyTime", f"{first}-{last}", value) == expected


@many
@given(
    uids=st.lists(st.from_regex(r"1(\.[1-9]){1,3}", fullmatch=True), min_size=1, max_size=5), place=st.integers(0, 9)
)
def test_a_uid_matches_a_list_that_holds_it_and_no_other(engine: Engine, uids: list[str], place: int) -> None:
    value = uids[place % len(uids)]
    assert matches(engine, "StudyInstanceUID", "\\".join(uids), value)
    assert not matches(engine, "StudyInstanceUID", "\\".join(uids), value + ".0")


@pytest.mark.parametrize("pattern", ["*a" * 3000 + "*b", "*" * 50_000 + "b", "?*" * 4_000 + "b", "*?" * 4_000])
def test_a_hostile_pattern_takes_no_more_than_linear_time(engine: Engine, pattern: str) -> None:
    began = time.process_time()
    matches(engine, "StudyDescription", pattern, "a" * 20_000)
    assert time.process_time() - began < 5


def test_a_pattern_beyond_any_use_is_refused(engine: Engine) -> None:
    with pytest.raises(MalformedQuery):
        matches(engine, "StudyDescription", "*a" * 6000, "a")
