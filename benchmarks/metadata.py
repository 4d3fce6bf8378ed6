"""`make bench-dicomweb`, metadata: the first request one second after the last image, and what one header costs.

Beside it, in the same run: pydicom reading every header at each request, and Orthanc's DICOMweb where that plugin
is installed. Figures, never checks.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from benchmarks.processes import cpu_seconds, free_port, running
from benchmarks.receivers import node
from storage.dicom_json import JsonEncoder

_SENDER = Path("/usr/bin/dcmsend")
_PLUGINS = (
    Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so"),
    Path("/usr/lib/orthanc/libOrthancDicomWeb.so"),
)
#: Attributes of a CT slice beside those that place it: a header of common size.
_COMMON = {
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "InstitutionName": "Bench Hospital",
    "Manufacturer": "Bench",
    "ManufacturerModelName": "Model 1",
    "StationName": "CT01",
    "SoftwareVersions": ["1.0", "2.0"],
    "DeviceSerialNumber": "12345",
    "ReferringPhysicianName": "Bench^Referrer",
    "OperatorsName": "Bench^Operator",
    "ProtocolName": "Thorax",
    "BodyPartExamined": "CHEST",
    "PatientPosition": "HFS",
    "KVP": "120",
    "XRayTubeCurrent": "210",
    "ExposureTime": "500",
    "Exposure": "105",
    "FilterType": "WEDGE",
    "GeneratorPower": "40",
    "FocalSpots": "1.2",
    "DistanceSourceToDetector": "1040",
    "DistanceSourceToPatient": "570",
    "GantryDetectorTilt": "0",
    "TableHeight": "150",
    "RotationDirection": "CW",
    "ConvolutionKernel": "B",
    "DataCollectionDiameter": "500",
    "ReconstructionDiameter": "350",
    "SliceThickness": "1.25",
    "PixelSpacing": ["0.68359375", "0.68359375"],
    "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
    "PositionReferenceIndicator": "SN",
    "RescaleIntercept": "-1024",
    "RescaleSlope": "1",
    "WindowCenter": ["40", "-600"],
    "WindowWidth": ["400", "1600"],
    "RescaleType": "HU",
    "PatientSex": "O",
    "PatientAge": "040Y",
    "PatientBirthDate": "19700101",
    "StudyDescription": "Chest",
    "SeriesDescription": "Thorax 1.25",
    "AccessionNumber": "BENCH1",
    "StudyID": "1",
}


@dataclass(frozen=True)
class Asked:
    """What a server took for one series."""

    server: str
    first_ms: float
    again_ms: float
    cpu_ms: float
    kilobytes: float


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=500)
    parser.add_argument("-r", "--rounds", type=int, default=10)
    arguments = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}; read ratios, not decimals\n")
    if not _SENDER.exists():
        print("Not measured: dcmsend is missing (apt-get install dcmtk).")
        return
    folder = Path(tempfile.mkdtemp(prefix="dicom-node-bench-"))
    try:
        study, series = write_series(folder / "data", slices=arguments.slices)
        rows = [_of_node(folder, study, series, arguments.rounds), _of_pydicom(folder / "data")]
        plugin = next((path for path in _PLUGINS if path.exists()), None)
        if plugin is not None and shutil.which("Orthanc"):
            rows.append(_of_orthanc(folder, plugin, study, series, arguments.rounds))
        _print(rows, arguments.slices)
        if plugin is None:
            print("Orthanc not measured: its DICOMweb plugin is not installed.")
        _headers(folder / "data")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_series(folder: Path, *, slices: int) -> tuple[str, str]:
    """Write a CT series with headers of common size; give its Study and Series Instance UID."""
    folder.mkdir(parents=True)
    study, series = generate_uid(), generate_uid()
    pixels = np.zeros((64, 64), dtype=np.int16).tobytes()
    for number in range(1, slices + 1):
        made = Dataset()
        made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, generate_uid()
        made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = study, series, f"{study}.1"
        made.PatientName, made.PatientID, made.Modality = "Bench^Metadata", "BENCH", "CT"
        for keyword, value in _COMMON.items():
            setattr(made, keyword, value)
        made.StudyDate = made.SeriesDate = made.AcquisitionDate = made.ContentDate = "20260102"
        made.StudyTime = made.SeriesTime = "101500"
        made.AcquisitionTime = made.ContentTime = f"1015{number % 60:02d}.{number:06d}"
        made.SeriesNumber, made.AcquisitionNumber, made.InstanceNumber = 1, 1, number
        made.ImagePositionPatient = ["-175", "-175", f"{number * 1.25:.4f}"]
        made.SliceLocation = f"{number * 1.25:.4f}"
        made.Rows = made.Columns = 64
        made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
        made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 1
        for element in range(0x30):
            made.add_new(0x00191001 + element, "DS", f"{element}.5")
        made.add_new(0x00190010, "LO", "BENCH PRIVATE")
        made.PixelData = pixels
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dcmwrite(folder / f"{number:05d}.dcm", made, enforce_file_format=True)
    return study, series


def _send(data: Path, port: int, ae_title: str) -> None:
    command = [str(_SENDER), "-aec", ae_title, "127.0.0.1", str(port), "+sd", str(data)]
    subprocess.run(command, env=dict(os.environ) | {"TCP_NODELAY": "1"}, check=True, capture_output=True)


def _of_node(folder: Path, study: str, series: str, rounds: int) -> Asked:
    with node(folder / "node") as listening:
        _send(folder / "data", listening.port, listening.ae_title)
        return _ask("dicom-node", listening.http_port, listening.group, study, series, rounds)


def _of_orthanc(folder: Path, plugin: Path, study: str, series: str, rounds: int) -> Asked:
    with _orthanc(folder / "orthanc", plugin) as (dicom, web, group):
        _send(folder / "data", dicom, "ORTHANC")
        return _ask("Orthanc", web, group, study, series, rounds)


@contextlib.contextmanager
def _orthanc(folder: Path, plugin: Path) -> Iterator[tuple[int, int, int]]:
    folder.mkdir(parents=True)
    dicom, web = free_port(), free_port()
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomAet": "ORTHANC",
        "DicomPort": dicom,
        "HttpPort": web,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True,
        "Plugins": [str(plugin)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with running(["Orthanc", str(folder / "orthanc.json")], port=web, log=folder / "log") as group:
        yield dicom, web, group


def _ask(server: str, port: int, group: int, study: str, series: str, rounds: int) -> Asked:
    """Ask for the metadata one second after the last image, and again."""
    time.sleep(1.0)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    path = f"/dicom-web/studies/{study}/series/{series}/metadata"

    def once() -> tuple[float, int]:
        began = time.perf_counter()
        connection.request("GET", path, headers={"Accept": "application/dicom+json"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{server} answers {answer.status}")
        return (time.perf_counter() - began) * 1000, len(body)

    connection.request("GET", "/dicom-web/studies?limit=1", headers={"Accept": "application/dicom+json"})
    connection.getresponse().read()  # the connection is up, nothing of the series was asked for
    first, size = once()
    before = cpu_seconds(group)
    again = [once()[0] for _ in range(rounds)]
    cpu = (cpu_seconds(group) - before) / rounds * 1000
    return Asked(server, first, statistics.median(again), cpu, size / 1000)


def _of_pydicom(data: Path) -> Asked:
    """What a server pays that reads every header with pydicom at each request."""
    began, cpu = time.perf_counter(), time.process_time()
    parts = [dcmread(path, stop_before_pixels=True).to_json() for path in sorted(data.iterdir())]
    took = (time.perf_counter() - began) * 1000
    return Asked("pydicom, per request", took, took, (time.process_time() - cpu) * 1000, sum(map(len, parts)) / 1000)


def _headers(data: Path) -> None:
    """Print the CPU time of one header, ours and pydicom's."""
    files = sorted(data.iterdir())
    encoder = JsonEncoder()

    def ours(path: Path) -> None:
        with path.open("rb") as file:
            encoder.encode_instance(file, study_instance_uid="1", series_instance_uid="2")

    def theirs(path: Path) -> None:
        dcmread(path, stop_before_pixels=True).to_json()

    mine, other = _cpu_ms(ours, files), _cpu_ms(theirs, files[:100])
    print(f"\nCPU of one header's DICOM JSON: ours {mine:.2f} ms, pydicom {other:.2f} ms ({other / mine:.0f} times)")


def _cpu_ms(work: Callable[[Path], None], files: list[Path]) -> float:
    began = time.process_time()
    for path in files:
        work(path)
    return (time.process_time() - began) / len(files) * 1000


def _print(rows: list[Asked], slices: int) -> None:
    print(f"Metadata of a {slices}-slice series, first asked for 1 s after its last image\n")
    print(f"{'server':<24}{'first ms':>10}{'again ms':>10}{'CPU ms':>9}{'kB':>8}")
    for row in rows:
        print(f"{row.server:<24}{row.first_ms:>10.1f}{row.again_ms:>10.1f}{row.cpu_ms:>9.1f}{row.kilobytes:>8.0f}")


if __name__ == "__main__":
    main()
