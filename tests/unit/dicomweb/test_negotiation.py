"""What a caller accepts and gets. Source: PS3.18 8.7, RFC 9110 12.5.1."""

from __future__ import annotations

import pytest

from dicomweb.errors import NotAcceptable
from dicomweb.media_types import choose, parse_accept

JSON, XML, JPEG, PNG = "application/dicom+json", "application/dicom+xml", "image/jpeg", "image/png"


@pytest.mark.parametrize(
    ("accept", "available", "chosen"),
    [
        ("", (JSON, XML), JSON),
        ("*/*", (JSON, XML), JSON),
        ("application/*", (JSON, XML), JSON),
        (XML, (JSON, XML), XML),
        (f"{JSON}, {XML}", (XML, JSON), JSON),
        (f"{JSON};q=0.1, {XML}", (JSON, XML), XML),
        (f"{JSON};q=0, */*", (JSON, XML), XML),
        (f"*/*, {XML};q=0", (XML, JSON), JSON),
        (f'multipart/related; type="{XML}"', (JSON, XML), XML),
        (f"multipart/related; type={XML}; q=0.9, {JSON};q=0.5", (JSON, XML), XML),
        ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", (JPEG, PNG), JPEG),
        ("IMAGE/PNG", (JPEG, PNG), PNG),
        ("nonsense, image/png", (JPEG, PNG), PNG),
        ("image/png;q=nonsense, image/jpeg", (JPEG, PNG), JPEG),
    ],
)
def test_the_best_of_what_there_is_is_chosen(accept: str, available: tuple[str, ...], chosen: str) -> None:
    assert choose(parse_accept(accept), available) == chosen


@pytest.mark.parametrize("accept", ["text/html", "image/*;q=0", "application/dicom+json;q=0", "nonsense"])
def test_what_is_not_accepted_is_refused_with_what_there_is(accept: str) -> None:
    with pytest.raises(NotAcceptable, match=r"Available: application/dicom\+json"):
        choose(parse_accept(accept), (JSON, XML))


def test_the_query_goes_before_the_header() -> None:
    assert choose(parse_accept("*/*", PNG), (JPEG, PNG)) == PNG
    assert choose(parse_accept(JPEG, "image/gif, image/png"), (JPEG, PNG)) == PNG


def test_parameters_are_read_with_and_without_quotation_marks() -> None:
    quoted, plain = (
        parse_accept(text)[0]
        for text in (
            'multipart/related; type="application/octet-stream"; transfer-syntax="1.2.840.10008.1.2.4.80"',
            "multipart/related;type=application/octet-stream;transfer-syntax=1.2.840.10008.1.2.4.80",
        )
    )
    assert quoted == plain
    assert quoted.wanted == "application/octet-stream"
    assert quoted.transfer_syntax == "1.2.840.10008.1.2.4.80"
    assert parse_accept('a/b; x="1,2;3", c/d')[0].parameters == {"x": "1,2;3"}


def test_a_million_ranges_are_not_all_read() -> None:
    assert len(parse_accept(",".join(["a/b"] * 1_000_000))) == 100
