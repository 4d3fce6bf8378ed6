"""File Meta Information: written by us, split off where others wrote it, believed nowhere."""

from __future__ import annotations

import io
import random
import struct

import pytest
from pydicom import dcmread

from storage.errors import UnreadableInstance
from storage.part10 import FileMeta, pass_file_meta, read_file_meta, write_file_meta
from tests.builders.ct import encode, make_ct_instance, uid

META = FileMeta("1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1.2.840.10008.1.2.1")


def test_what_is_written_is_read_back_by_us_and_by_others() -> None:
    written = write_file_meta(META, source_ae_title="CT1")
    assert read_file_meta(io.BytesIO(written)) == META
    read = dcmread(io.BytesIO(written)).file_meta
    assert (read.MediaStorageSOPInstanceUID, read.SourceApplicationEntityTitle) == ("1.2.3", "CT1")
    assert written[:128] == bytes(128)
    assert read.FileMetaInformationGroupLength == len(written) - 144


def test_the_file_is_left_at_the_data_set() -> None:
    part10 = encode(make_ct_instance(2))
    file = io.BytesIO(part10)
    assert read_file_meta(file).sop_instance_uid == uid(1, 1, 2)
    assert file.tell() == 144 + int.from_bytes(part10[140:144], "little")


@pytest.mark.parametrize("group_length", [0, 1, 0xFFFFFFFF])
def test_a_group_length_that_lies_is_not_believed(group_length: int) -> None:
    part10 = encode(make_ct_instance())
    lying = part10[:140] + struct.pack("<I", group_length) + part10[144:]
    assert read_file_meta(io.BytesIO(lying)).sop_instance_uid == uid(1, 1, 1)


def test_a_file_cut_anywhere_in_its_meta_information_is_refused() -> None:
    part10 = encode(make_ct_instance())
    meta = 144 + int.from_bytes(part10[140:144], "little")
    whole = read_file_meta(io.BytesIO(part10))
    for cut in range(meta):
        try:
            read = read_file_meta(io.BytesIO(part10[:cut]))
        except UnreadableInstance:
            continue
        assert read == whole  # cut behind the last that is needed


@pytest.mark.parametrize("content", [b"", b"DICM", bytes(128), bytes(128) + b"DICM", b"GIF89a" + bytes(200)])
def test_what_is_no_dicom_file_is_refused(content: bytes) -> None:
    with pytest.raises(UnreadableInstance):
        read_file_meta(io.BytesIO(content))


def test_meta_information_without_end_is_refused() -> None:
    endless = bytes(128) + b"DICM" + (b"\x02\x00\x02\x01OB\0\0" + struct.pack("<I", 60000) + bytes(60000)) * 3
    with pytest.raises(UnreadableInstance, match="longer"):
        pass_file_meta(io.BytesIO(endless))
    claims = bytes(128) + b"DICM" + b"\x02\x00\x02\x01OB\0\0" + struct.pack("<I", 0xFFFFFFFE)
    with pytest.raises(UnreadableInstance, match="longer"):
        pass_file_meta(io.BytesIO(claims))


def test_no_mutation_makes_reading_fail_otherwise() -> None:
    chance = random.Random(29)
    part10 = encode(make_ct_instance())[:400]
    for _ in range(800):
        mutated = bytearray(part10)
        for _ in range(chance.randint(1, 5)):
            mutated[chance.randrange(132, len(mutated))] = chance.randrange(256)
        try:
            read_file_meta(io.BytesIO(bytes(mutated)))
        except UnreadableInstance:
            continue
