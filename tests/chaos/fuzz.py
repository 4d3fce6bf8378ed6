"""Mutated instances through the door of a running node, and mutated PDUs at its port."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset
from pydicom.sequence import Sequence

from configs.peers import Peer
from dicom_node.scu.echo import echo
from tests.builders.ct import make_ct_instance, uid
from tests.builders.wire import Gone, Made, Modality, Rejected, associate_rq, bare, store_message
from tests.chaos.network import Costs, costs_of, node_up, warm_up

#: A sender is answered within this, whatever it sent.
_HANG_S = 5.0


@dataclass
class Fuzzed:
    """What mutated input came to."""

    seed: int
    data_sets: int = 0
    associations: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    ended: int = 0
    """Connections that the node ended."""
    slowest_s: float = 0.0
    slowest_echo_s: float = 0.0
    before: Costs | None = None
    after: Costs | None = None
    deaths: int = 0
    unexpected: int = 0
    """Log lines of faults of ours."""
    ledger: str = ""


def fuzz(folder: Path, *, data_sets: int, associations: int, seed: int) -> Fuzzed:
    """Send mutated data sets and mutated PDUs, with C-ECHO in between; count what must not happen."""
    chance, fuzzed = random.Random(seed), Fuzzed(seed)
    with node_up(folder) as node:
        warm_up(node)
        pids = node.role_pids()
        fuzzed.before = costs_of(pids["receiver"])
        peer = Peer(ae_title="DICOMNODE", host="127.0.0.1", port=node.dimse_port)
        for number in range(max(data_sets, associations)):
            began = time.monotonic()
            if number < data_sets:
                _one_data_set(node.dimse_port, number, chance, fuzzed)
            if number < associations:
                _one_association(node.dimse_port, chance, fuzzed)
            fuzzed.slowest_s = max(fuzzed.slowest_s, time.monotonic() - began)
            if number % 250 == 249:
                began = time.monotonic()
                echo(peer, "CT1")
                fuzzed.slowest_echo_s = max(fuzzed.slowest_echo_s, time.monotonic() - began)
        fuzzed.deaths = sum(node.role_pids().get(role) != pid for role, pid in pids.items())
        fuzzed.after = costs_of(node.role_pids()["receiver"])
        fuzzed.ledger = node.run("ledger").stdout.splitlines()[-1]
        fuzzed.unexpected = node.log().count("our fault")
    return fuzzed


def _one_data_set(port: int, number: int, chance: random.Random, fuzzed: Fuzzed) -> None:
    whole = bare(_rich(number))
    made = Made("", uid(80, 1, number), _mutated(whole, chance))
    fuzzed.data_sets += 1
    try:
        with Modality(port, timeout_s=_HANG_S) as modality:
            fuzzed.statuses[modality.store(made)] += 1
            modality.release()
    except (Gone, Rejected):
        fuzzed.ended += 1


def _rich(number: int) -> Dataset:
    """Make a data set with what readers trip over: sequences, several character sets, private elements."""
    made = make_ct_instance(number, study=80)
    made.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = "113691", "DCM"
    made.ConceptNameCodeSequence = Sequence([item, item])
    made.RequestAttributesSequence = Sequence([item])
    made["RequestAttributesSequence"].is_undefined_length = True
    made.private_block(0x0043, "TEST", create=True).add_new(0x01, "UN", b"private")
    return made


def _mutated(content: bytes, chance: random.Random) -> bytes:
    """Change bytes, cut, repeat, insert; most often something small."""
    made = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(max(1, len(made)))
        match chance.randrange(6):
            case 0 | 1:
                made[at : at + 1] = bytes([chance.choice((0, 0xFF, 0x7F, 0x80, chance.randrange(256)))])
            case 2:
                made[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0"))
            case 3:
                made[at:] = b"" if chance.random() < 0.3 else made[at:]
            case 4:
                made[at:at] = made[at : at + chance.randint(1, 64)]
            case _:
                made[at:at] = chance.randbytes(chance.randint(1, 16))
    return bytes(made)


def _one_association(port: int, chance: random.Random, fuzzed: Fuzzed) -> None:
    """Mutate the request for an association, or a message after it."""
    fuzzed.associations += 1
    request = associate_rq("CT1", "DICOMNODE", [("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1")])
    message = store_message(Made("", uid(80, 2, 1), bare(make_ct_instance(1, study=80, series=2))))
    try:
        if chance.random() < 0.4:
            _raw(port, _mutated(request, chance) + message)
        else:
            with Modality(port, timeout_s=_HANG_S) as modality:
                modality.send(_mutated(message[: chance.randint(20, len(message))], chance))
                modality.half_close()
                modality.read()
    except (Gone, Rejected):
        fuzzed.ended += 1


def _raw(port: int, content: bytes) -> None:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=_HANG_S) as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
