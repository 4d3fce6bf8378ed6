"""The children that decode untrusted pixels: what they may take, and what becomes of one that breaks."""

from __future__ import annotations

import os
import signal
import struct
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate

from inference.errors import CannotTranscode, NoSuchFrame, PixelWorkStopped, UnreadablePixels
from inference.pixel_process import PixelLimits, PixelProcess
from inference.syntaxes import (
    DEFLATED,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_LS,
    RLE,
)
from tests.builders.pixels import make_image, noise

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def pixels() -> Iterator[PixelProcess]:
    with PixelProcess(children=2) as process:
        yield process


def pixel_children() -> list[int]:
    """Give this process's children that work on pixels; entries vanish while one looks."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            ours = int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid()
            if ours and b"inference.pixel_child" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_an_instance_is_transcoded_to_the_best_syntax_that_is_accepted(pixels: PixelProcess) -> None:
    image = make_image(noise(36, 40))
    answer = pixels.transcode(BytesIO(image), EXPLICIT_LITTLE, {JPEG_BASELINE, RLE, JPEG_LS})
    with answer.file:
        assert answer.transfer_syntax_uid == JPEG_LS
        assert answer.size == len(answer.file.read())
        answer.file.seek(0)
        assert dcmread(answer.file).file_meta.TransferSyntaxUID == JPEG_LS


def test_what_is_accepted_as_stored_is_not_touched(pixels: PixelProcess) -> None:
    stored = BytesIO(b"any bytes")
    answer = pixels.transcode(stored, RLE, {RLE, EXPLICIT_LITTLE})
    assert (answer.file, answer.transfer_syntax_uid, answer.size) == (stored, RLE, 9)


def test_where_one_codec_cannot_hold_the_pixels_the_next_accepted_one_is_taken(pixels: PixelProcess) -> None:
    tiny = make_image(noise(8, 8, dtype="uint8"))  # too small for JPEG 2000
    answer = pixels.transcode(BytesIO(tiny), EXPLICIT_LITTLE, {JPEG_2000_LOSSLESS, RLE})
    with answer.file:
        assert answer.transfer_syntax_uid == RLE


def test_a_peer_that_takes_lossy_alone_gets_an_error(pixels: PixelProcess) -> None:
    with pytest.raises(CannotTranscode):
        pixels.transcode(BytesIO(make_image(noise(36, 40))), EXPLICIT_LITTLE, {JPEG_BASELINE})


def test_frames_pictures_and_digests_come_from_the_child(pixels: PixelProcess) -> None:
    image = make_image(noise(3, 36, 40), frames=3)
    assert pixels.frame(BytesIO(image), 2, EXPLICIT_LITTLE) == dcmread(BytesIO(image)).pixel_array[2].tobytes()
    picture = pixels.picture(BytesIO(image), 1, form="PNG", window=(100.0, 200.0), longest_side=20)
    assert Image.open(BytesIO(picture)).size == (20, 18)
    compressed = pixels.transcode(BytesIO(image), EXPLICIT_LITTLE, {JPEG_LS})
    with compressed.file:
        assert pixels.digest(compressed.file) == pixels.digest(BytesIO(image))
    with pytest.raises(NoSuchFrame):
        pixels.frame(BytesIO(image), 3, EXPLICIT_LITTLE)


def test_children_hold_no_socket_of_the_node_and_nothing_of_its_environment(
    pixels: PixelProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DICOM_NODE_AUTH__ADMIN_KEY", "secret")
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listening, PixelProcess(children=1) as own:
        os.set_inheritable(listening.fileno(), True)
        own.digest(BytesIO(make_image(noise(8, 8))))
        inode = os.fstat(listening.fileno()).st_ino
        for pid in pixel_children():
            held = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
            assert f"socket:[{inode}]" not in held
            assert b"secret" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_a_child_that_is_killed_is_an_error_once_and_replaced(pixels: PixelProcess) -> None:
    image = make_image(noise(36, 40))
    with PixelProcess(children=1) as own:
        before = set(pixel_children())
        own.digest(BytesIO(image))
        (child,) = set(pixel_children()) - before
        os.kill(child, signal.SIGKILL)
        with pytest.raises(PixelWorkStopped):
            own.digest(BytesIO(image))
        assert own.digest(BytesIO(image))
        (successor,) = set(pixel_children()) - before
        assert successor != child


@pytest.mark.parametrize("limits", [PixelLimits(wall_s=2.5), PixelLimits(cpu_s=0.0)])
def test_work_that_takes_too_long_is_stopped_in_time(limits: PixelLimits) -> None:
    small, slow = make_image(noise(8, 8)), make_image(noise(6000, 6000))
    with PixelProcess(children=1, limits=limits) as own:
        own.digest(BytesIO(small))
        began = time.monotonic()
        with pytest.raises(PixelWorkStopped):
            own.transcode(BytesIO(slow), EXPLICIT_LITTLE, {JPEG_2000_LOSSLESS})
        assert time.monotonic() - began < 8
        assert own.digest(BytesIO(small))


def bomb(transfer_syntax_uid: str, frame: bytes, **attributes: object) -> bytes:
    image = dcmread(BytesIO(make_image(noise(8, 8))))
    image.Rows = image.Columns = 65535
    for keyword, value in attributes.items():
        setattr(image, keyword, value)
    image.PixelData = encapsulate([frame])
    image["PixelData"].VR = "OB"
    image["PixelData"].is_undefined_length = True
    image.file_meta.TransferSyntaxUID = transfer_syntax_uid
    file = BytesIO()
    image.save_as(file)
    return file.getvalue()


def resident_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


@pytest.mark.parametrize(
    ("syntax", "frame"),
    [
        (RLE, struct.pack("<16I", 2, 64, 70, *([0] * 13)) + bytes([129, 0] * 10)),
        (
            JPEG_2000_LOSSLESS,
            b"\xff\x4f\xff\x51" + struct.pack(">HHIIIIIIIIH", 41, 0, 65535, 65535, *([0] * 6), 1) + bytes(40),
        ),
        (
            JPEG_LS,
            b"\xff\xd8\xff\xf7"
            + struct.pack(">HBHHB", 11, 16, 65535, 65535, 1)
            + bytes([1, 17, 0, 255, 218])
            + bytes(40),
        ),
        (
            JPEG_BASELINE,
            b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 11, 8, 65535, 65535, 1) + bytes([1, 17, 0]) + bytes(40),
        ),
    ],
)
def test_a_small_payload_of_huge_dimensions_is_refused_soon_and_within_memory(
    pixels: PixelProcess, syntax: str, frame: bytes
) -> None:
    began = time.monotonic()
    with pytest.raises(UnreadablePixels):
        pixels.frame(BytesIO(bomb(syntax, frame)), 0, EXPLICIT_LITTLE)
    assert time.monotonic() - began < 10
    assert all(resident_kb(pid) < 300 * 1024 for pid in pixel_children())


def test_a_frame_that_fits_the_limit_of_samples_but_not_the_memory_is_an_error() -> None:
    part10 = bomb(RLE, struct.pack("<16I", 2, 64, 70, *([0] * 13)) + bytes([129, 0] * 10), Rows=16000, Columns=16000)
    with PixelProcess(children=1, limits=PixelLimits(memory_bytes=600 * MEGABYTE)) as own:
        with pytest.raises(UnreadablePixels):
            own.frame(BytesIO(part10), 0, EXPLICIT_LITTLE)
        assert own.digest(BytesIO(make_image(noise(8, 8))))


def test_a_deflated_instance_that_inflates_beyond_its_output_is_stopped(pixels: PixelProcess) -> None:
    large = make_image(np.zeros((4000, 4000), dtype="uint16"), transfer_syntax_uid=DEFLATED)
    assert len(large) < 200_000
    with (
        PixelProcess(children=1, limits=PixelLimits(output_bytes=8 * MEGABYTE)) as own,
        pytest.raises(UnreadablePixels),
    ):
        own.digest(BytesIO(large))


def test_threads_share_the_children(pixels: PixelProcess) -> None:
    image = make_image(noise(64, 64))
    expected = dcmread(BytesIO(image)).PixelData
    answers: list[bytes] = []

    def ask() -> None:
        answers.extend(pixels.frame(BytesIO(image), 0, IMPLICIT_LITTLE) for _ in range(5))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [expected] * 30


def test_children_are_replaced_after_some_works() -> None:
    with PixelProcess(children=1, limits=PixelLimits(works=2)) as own:
        before = set(pixel_children())
        seen: set[int] = set()
        for _ in range(4):
            own.digest(BytesIO(make_image(noise(8, 8))))
            seen |= set(pixel_children()) - before
        assert len(seen) >= 1
        assert not set(pixel_children()) - before  # the second work of a child is its last


def test_a_warm_child_is_there_before_it_is_needed_and_does_the_first_work() -> None:
    before = set(pixel_children())
    with PixelProcess(children=2) as own:
        own.warm()
        (warm,) = set(pixel_children()) - before
        own.digest(BytesIO(make_image(noise(8, 8))))
        assert set(pixel_children()) - before == {warm}


def test_closing_ends_the_children() -> None:
    before = set(pixel_children())
    own = PixelProcess(children=1)
    own.digest(BytesIO(make_image(noise(8, 8))))
    assert set(pixel_children()) - before
    own.close()
    assert not set(pixel_children()) - before
    with pytest.raises(PixelWorkStopped):
        own.digest(BytesIO(make_image(noise(8, 8))))
