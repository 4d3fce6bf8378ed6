"""Results in the transfer syntaxes that destinations ask for: the same object, the same pixels, smaller."""

from __future__ import annotations

import io
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gdcm
import highdicom as hd
import numpy as np
import pytest
from pydantic import ValidationError
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pynetdicom import AE, evt
from pynetdicom.events import Event

from configs.peers import DeliverByDimse, Peer
from configs.settings import DimseSettings
from dicom_node.scu.store import Outgoing, send
from dicom_node.worker.carriers import carry
from inference.errors import CannotTranscode
from inference.results.encodings import SYNTAX, encode_as, syntaxes_for
from inference.results.forms import CLASSES, SEGMENTATIONS, Form
from inference.syntaxes import DEFLATED, DEFLATED_FRAMES, EXPLICIT_LITTLE, JPEG_2000_LOSSLESS, JPEG_LS, RLE
from tests.builders.findings import ct_headers, lungs, make_run, pictures, write
from tests.builders.result_sets import built
from tests.conformance.test_result_objects import tool

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

#: Rows and columns: whole bytes, and frames of single bits that begin within a byte.
SHAPES = {"whole bytes": (12, 64, 64), "odd": (12, 45, 61)}


def kept(form: str, shape: str = "whole bytes") -> dict[str, bytes]:
    slices, rows, columns = SHAPES[shape]
    headers = ct_headers(slices, rows=rows, columns=columns)
    made = built(
        lungs(SHAPES[shape]),
        evidence=headers,
        run=make_run(headers),
        form=Form.of(form),
        shown=pictures(slices, rows, columns),
    )
    return {result.kind: result.part10 for result in made.results}


def pixels_of(part10: bytes) -> np.ndarray:  # type: ignore[type-arg]
    """Frames as the node's readers do not read them: by other libraries, frame by frame."""
    dataset = dcmread(io.BytesIO(part10))
    syntax, count = dataset.file_meta.TransferSyntaxUID, int(dataset.get("NumberOfFrames", 1))
    if syntax == DEFLATED_FRAMES:
        frames = generate_frames(dataset.PixelData, number_of_frames=count)
        raw = [zlib.decompress(frame, -zlib.MAX_WBITS) for frame in frames]
        if dataset.BitsAllocated == 1:
            size = dataset.Rows * dataset.Columns
            bits = [np.unpackbits(np.frombuffer(one, np.uint8), bitorder="little")[:size] for one in raw]
            return np.stack(bits).reshape(count, dataset.Rows, dataset.Columns)
        return np.frombuffer(b"".join(raw), np.uint8).reshape(count, dataset.Rows, dataset.Columns, -1).squeeze()
    if dataset.BitsAllocated == 1 and syntax == JPEG_2000_LOSSLESS:
        return np.asarray(hd.seg.segread(io.BytesIO(part10)).get_stored_frames() > 0)
    return np.asarray(dataset.pixel_array)


ALL = ("rle", "jpeg-2000", "jpeg-ls", "deflated", "deflated-frames")
OF_BITS = ("jpeg-2000", "deflated", "deflated-frames")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("form", "kind", "word"),
    [
        *(("binary+none", "seg", word) for word in OF_BITS),
        *(("labelmap+none", "seg", word) for word in ALL),
        *(("capture+none", "capture", word) for word in ALL),
    ],
)
def test_pixels_come_back_bit_by_bit_and_nothing_else_changes(form: str, kind: str, word: str, shape: str) -> None:
    plain = kept(form, shape)[kind]
    before = dcmread(io.BytesIO(plain))
    assert syntaxes_for(before.SOPClassUID, [word]) == (SYNTAX[word],)  # type: ignore[list-item,index]
    coded = encode_as(plain, SYNTAX[word])  # type: ignore[index]
    after = dcmread(io.BytesIO(coded))
    assert after.file_meta.TransferSyntaxUID == SYNTAX[word]  # type: ignore[index]
    assert np.array_equal(pixels_of(coded), before.pixel_array.reshape(pixels_of(coded).shape))
    assert without_pixels(after) == without_pixels(before)
    assert len(coded) < len(plain)


def without_pixels(dataset: Dataset) -> Dataset:
    made = Dataset(dict(dataset.items()))
    del made.PixelData
    return made


@pytest.mark.parametrize("word", ["rle", "jpeg-ls"])
def test_single_bits_are_refused_by_codecs_that_hold_none(word: str) -> None:
    assert syntaxes_for(SEGMENTATIONS["binary"], [word]) == ()  # type: ignore[list-item]
    with pytest.raises(CannotTranscode):
        encode_as(kept("binary+none")["seg"], SYNTAX[word])  # type: ignore[index]


def test_what_has_no_pixels_is_deflated_or_left() -> None:
    for kind in ("sr", "text", "pdf", "key-objects"):
        for sop_class in CLASSES[kind][0]:  # type: ignore[index]
            assert syntaxes_for(sop_class, SYNTAX) == (DEFLATED,)
    plain = kept("none+comprehensive-3d")["sr"]
    coded = encode_as(plain, DEFLATED)
    assert dcmread(io.BytesIO(coded)) == dcmread(io.BytesIO(plain))
    assert len(coded) < len(plain) / 4
    with pytest.raises(CannotTranscode, match="no pixel data"):
        encode_as(plain, RLE)


def test_order_is_that_of_the_destination() -> None:
    assert syntaxes_for(SEGMENTATIONS["labelmap"], ["jpeg-ls", "deflated", "rle"]) == (JPEG_LS, DEFLATED, RLE)
    assert syntaxes_for(SEGMENTATIONS["binary"], ["jpeg-ls", "jpeg-2000"]) == (JPEG_2000_LOSSLESS,)


def test_as_kept_is_the_same_bytes() -> None:
    plain = kept("binary+none")["seg"]
    assert encode_as(plain, EXPLICIT_LITTLE) == plain


def test_same_bytes_each_time() -> None:
    plain = kept("labelmap+none")["seg"]
    for syntax in SYNTAX.values():
        assert encode_as(plain, syntax) == encode_as(plain, syntax)


@pytest.mark.parametrize(("word", "program"), [("rle", "dcmdrle"), ("jpeg-ls", "dcmdjpls"), ("deflated", "dcmconv")])
def test_dcmtk_decodes_label_maps(word: str, program: str, tmp_path: Path) -> None:
    plain = kept("labelmap+none", "odd")["seg"]
    coded = write(tmp_path, "coded", encode_as(plain, SYNTAX[word]))  # type: ignore[index]
    decoded = tmp_path / "decoded.dcm"
    option = ["+te"] if program == "dcmconv" else []
    done = subprocess.run([tool(program, "dcmtk"), *option, coded, decoded], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert dcmread(decoded).PixelData.rstrip(b"\0") == dcmread(io.BytesIO(plain)).PixelData.rstrip(b"\0")


def test_gdcm_decodes_single_bits_of_jpeg_2000(tmp_path: Path) -> None:
    """A reader made by others, on another JPEG 2000 decoder's rules for one bit."""
    plain = kept("binary+none")["seg"]
    reader = gdcm.ImageReader()
    reader.SetFileName(str(write(tmp_path, "coded", encode_as(plain, JPEG_2000_LOSSLESS))))
    assert reader.Read()


def test_dciodvfy_finds_no_error_in_compressed_single_bits(tmp_path: Path) -> None:
    path = write(tmp_path, "seg", encode_as(kept("binary+none")["seg"], JPEG_2000_LOSSLESS))
    done = subprocess.run([tool("dciodvfy", "dicom3tools"), path], capture_output=True, text=True, check=False)
    assert [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")] == []


@contextmanager
def accepting(*syntaxes: str) -> Iterator[tuple[Peer, list[tuple[str, bytes]]]]:
    """Start a storage SCP that takes segmentations in these syntaxes; give what arrives with its syntax."""
    arrived: list[tuple[str, bytes]] = []

    def on_store(event: Event) -> int:
        arrived.append((str(event.context.transfer_syntax), event.encoded_dataset(include_meta=True)))
        return 0

    entity = AE(ae_title="DEST")
    for sop_class in SEGMENTATIONS.values():
        entity.add_supported_context(sop_class, list(syntaxes))
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)])
    try:
        yield Peer(ae_title="DEST", host="127.0.0.1", port=server.server_address[1]), arrived
    finally:
        server.shutdown()


def outgoing(part10: bytes, *words: str) -> Outgoing:
    header = dcmread(io.BytesIO(part10), stop_before_pixels=True)
    return Outgoing(
        str(header.SOPInstanceUID),
        str(header.SOPClassUID),
        str(EXPLICIT_LITTLE),
        open=lambda: io.BytesIO(part10),
        preferred=syntaxes_for(str(header.SOPClassUID), words),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("wanted", "accepted", "chosen"),
    [
        ((), (EXPLICIT_LITTLE, RLE), EXPLICIT_LITTLE),
        (("rle",), (EXPLICIT_LITTLE, RLE), RLE),
        (("jpeg-ls", "rle"), (EXPLICIT_LITTLE, RLE), RLE),
        (("jpeg-2000", "jpeg-ls"), (EXPLICIT_LITTLE, JPEG_LS, JPEG_2000_LOSSLESS), JPEG_2000_LOSSLESS),
        (("deflated",), (EXPLICIT_LITTLE, DEFLATED), DEFLATED),
        (("deflated-frames",), (EXPLICIT_LITTLE,), EXPLICIT_LITTLE),
        (("deflated-frames",), (EXPLICIT_LITTLE, DEFLATED_FRAMES), DEFLATED_FRAMES),
    ],
)
def test_best_wanted_syntax_that_the_peer_accepts_is_sent(
    wanted: tuple[str, ...], accepted: tuple[str, ...], chosen: str
) -> None:
    plain = kept("labelmap+none")["seg"]
    statuses: list[int] = []
    with accepting(*accepted) as (peer, arrived):
        send(
            peer,
            calling_ae_title="DICOMNODE",
            items=[outgoing(plain, *wanted)],
            on_status=lambda _, status: statuses.append(status),
        )
    ((syntax, part10),) = arrived
    assert (statuses, syntax) == ([0], chosen)
    assert np.array_equal(pixels_of(part10), dcmread(io.BytesIO(plain)).pixel_array)


def test_encodings_of_a_peer_are_proposed_when_results_are_delivered() -> None:
    plain = kept("binary+none")["seg"]
    with accepting(EXPLICIT_LITTLE, JPEG_2000_LOSSLESS) as (peer, arrived):
        deliver = DeliverByDimse(encodings=("rle", "jpeg-2000"))
        listed = peer.model_copy(update={"deliver": deliver})
        carry(listed, "1.2.3", [outgoing(plain)], lambda *_: None, DimseSettings())
    assert [syntax for syntax, _ in arrived] == [JPEG_2000_LOSSLESS]


def test_unknown_encoding_is_refused_with_its_place() -> None:
    with pytest.raises(ValidationError, match=r"encodings\.0"):
        DeliverByDimse.model_validate({"encodings": ["zip"]})
