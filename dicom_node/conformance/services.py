"""What is served and what is used over DIMSE: SOP Classes, roles, Statuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import get_args

from pydicom._uid_dict import UID_dictionary

from configs.peers import Outlines, Report, Service
from configs.settings import DeliverySettings
from dicom_node.conformance.markdown import name_of, table
from dicom_node.scp import availability, performed_step
from dicom_node.scp.commitment import MOST_REFERENCES, N_ACTION_STATUSES
from dicom_node.scp.contexts import SERVICE_CLASSES, UNCOMPRESSED, WITHOUT_PATIENT, service_of
from dicom_node.scp.find import MOST_MATCHES
from dicom_node.scp.identifier import LEVELS
from dicom_node.scp.query_retrieve import EXTENDED
from dicom_node.scp.reporting import GRACE_S
from dicom_node.scp.retrieve import MOST_SUB_OPERATIONS, PENDING_EVERY_S
from dicom_node.scp.status import ECHO_STATUSES, FIND_STATUSES, GET_STATUSES, MOVE_STATUSES, STORE_STATUSES
from dicom_node.scu.store import PROPOSED
from dicom_node.worker.confirm import HOLD_S, MOST_SENT_AGAIN, REPORT_WITHIN_S
from dicom_node.worker.counts import APART_S, MOST_QUESTIONS
from dicom_node.worker.outcomes import HTTP_STATUS, STATUS, Effect
from inference.results.forms import IN_WORDS
from storage.commitments import FAILURE_REASONS
from storage.patients import PATIENT_KEYWORDS

#: Service → what it is called, and the Statuses that it answers.
SERVED: dict[Service, tuple[str, Mapping[int, str]]] = {
    "echo": ("C-ECHO", ECHO_STATUSES),
    "store": ("C-STORE", STORE_STATUSES),
    "commit": ("N-ACTION (Storage Commitment)", N_ACTION_STATUSES),
    "find": ("C-FIND", FIND_STATUSES),
    "mpps": ("N-CREATE, N-SET (Modality Performed Procedure Step)", performed_step.STATUSES),
    "ian": ("N-CREATE (Instance Availability Notification)", availability.STATUSES),
    "move": ("C-MOVE", MOVE_STATUSES),
    "get": ("C-GET", GET_STATUSES),
}

_EFFECT = {
    Effect.ACCEPTED: "delivered",
    Effect.RETRY: "tried again, with growing pauses",
    Effect.GIVE_UP: "given up; a person is told",
    Effect.OTHER_FORM: "the next form goes instead; given up where there is none",
}


def sections() -> Iterator[str]:
    """Give the sections."""
    yield _served()
    yield _queries()
    yield _storage()
    yield _commitment()
    yield _used()


def _served() -> str:
    rows = [(name_of(uid), uid, _title(service), "SCP") for uid, service in SERVICE_CLASSES.items()]
    rows.append(("each storage SOP Class (next section)", "", _title("store"), "SCP"))
    text = "Services as SCP\n\n" + table(("SOP Class", "UID", "service", "role"), rows)
    for title, statuses in SERVED.values():
        codes = ((f"0x{code:04X}", words) for code, words in statuses.items())
        text += f"\n### {title}: Statuses answered\n\n" + table(("Status", "meaning"), codes)
    return text


#: Bytes of the Service Class Application Information. Source: PS3.4 C.5.1.1, C.5.2.1, C.5.3.1.
_OF_QUERIES = (
    "relational",
    "combined date and time",
    "fuzzy matching",
    "time zone adjustment",
    "multi-frame conversion",
)
_OF_RETRIEVAL = ("relational", "multi-frame conversion")


def _queries() -> str:
    rows = []
    for service, supported in EXTENDED.items():
        if service not in SERVED:
            continue
        names = _OF_QUERIES if service == "find" else _OF_RETRIEVAL
        agreed = ", ".join(name for name, byte in zip(names, supported, strict=True) if byte)
        refused = ", ".join(name for name, byte in zip(names, supported, strict=True) if not byte)
        rows.append((SERVED[service][0], agreed, refused))
    models = [
        (name_of(uid), ", ".join(level.value for level in levels))
        for uid, levels in LEVELS.items()
        if uid in SERVICE_CLASSES
    ]
    return (
        "Queries\n\nBy the hierarchical model, unless relational queries are negotiated: each level above is named by"
        " one value of its unique key. Transfer syntaxes: "
        + ", ".join(name_of(uid) for uid in UNCOMPRESSED)
        + ".\n\n"
        + table(("model", "levels"), models)
        + "\nSOP Class Extended Negotiation:\n\n"
        + table(("service", "agreed to where asked for", "not supported"), rows)
        + "\nMatching: as the section on matching says; it is shared with QIDO-RS. Patients are found through their"
        " studies, one for each Patient ID and issuer: "
        + ", ".join(PATIENT_KEYWORDS)
        + " and the numbers of related studies, series and instances. A requested attribute that the index does not"
        " have is left out of the answers, and they have Status 0xFF01. Of results, those of the canonical form are"
        " listed; others answer to their UIDs. Answers are in the character set of the identifier where it holds every"
        f" character, else in ISO_IR 100 or ISO_IR 192. At most {MOST_MATCHES} matches are given.\n\n"
        "C-MOVE sends to the peer of `peers.yaml` whose AE title it names and that has host and port; C-GET over the"
        " requestor's association, in the storage contexts for which it negotiated the role of SCP. By the unique keys"
        " alone; of a patient or study, what C-FIND lists. An instance goes as it is kept where that syntax was"
        " accepted, else without loss in another: C-MOVE proposes "
        + " and ".join(name_of(uid) for uid in PROPOSED)
        + "; compressed pixels are decompressed for it. What cannot be given so counts as failed. A pending response is"
        f" given at the beginning and every {PENDING_EVERY_S:g} s; a cancel counts between instances. At most"
        f" {MOST_SUB_OPERATIONS} instances are retrieved at a time.\n"
    )


def _title(service: Service) -> str:
    return SERVED[service][0]


def _storage() -> str:
    """Every storage SOP Class of the dictionary in use; newer and private ones follow the rule."""
    known = sorted((name_of(uid), uid) for uid in UID_dictionary if service_of(uid) == "store")
    refused = sorted((name_of(uid), uid) for uid in WITHOUT_PATIENT)
    return (
        "Storage SOP Classes\n\nAccepted as SCP, from a peer that may store, in every transfer syntax of this page:"
        " those listed, retired ones, private ones, and those newer than this list under the standard's root.\n\n"
        + table(("SOP Class", "UID"), known)
        + "\nNot accepted, as their instances belong to no patient:\n\n"
        + table(("SOP Class", "UID"), refused)
    )


def _commitment() -> str:
    reasons = ((f"0x{reason:04X}", words) for reason, words in FAILURE_REASONS.items())
    delivery = DeliverySettings()
    return (
        "Storage commitment\n\nThe Push Model, as SCP. A request is recorded before it is answered, with up to"
        f" {MOST_REFERENCES} references. Only instances whose file is whole and whose index row is committed are"
        " committed to; one that was not here at the request is looked for again before each report. What is committed"
        " to is exempt from purging, without a limit in time unless the site sets "
        "`retention.release_committed_after_days`: the peer may delete its copy.\n\nThe report"
        " (N-EVENT-REPORT, event 1 or 2) goes out on the association of the request where that is still open"
        f" {GRACE_S:g} s after the answer; else, or where it is not taken there, on an association of the node to the"
        " peer's host and port, from the AE title that was called, with the role of SCP proposed, in Implicit (or"
        f" Explicit) VR Little Endian. It is tried again with growing pauses ({delivery.first_retry_s:g} s to"
        f" {delivery.retry_at_most_s:g} s), {delivery.attempts} times. A peer that is listed without host and port,"
        " such as one under any AE title, is told on the association of its request alone; it may ask again with the"
        " same"
        " Transaction UID.\n\n" + table(("Failure Reason", "meaning"), reasons)
    )


def _used() -> str:
    rows = (
        (f"0x{first:04X}" + (f" - 0x{last:04X}" if last != first else ""), words or "success", _EFFECT[effect])
        for first, last, effect, words in STATUS
    )
    http = (
        (f"{first}" + (f" - {last}" if last != first else ""), words, _EFFECT[effect])
        for first, last, effect, words in HTTP_STATUS
    )
    return (
        "Services as SCU\n\nC-ECHO, to test a peer (`dicom-node peers echo`). C-STORE, to deliver results and to send"
        " files (`dicom-node send`): each (SOP Class, transfer syntax) in a presentation context of its own, as it is"
        " kept first; an uncompressed instance also in Explicit and Implicit VR Little Endian. Results are"
        " proposed before that in the lossless syntaxes of the peer's `encodings`. Originals that a rule sends onward"
        " (`originals_to`) go as they are kept, each on its own: one that is refused holds up no other; where a peer"
        " takes a compressed one only uncompressed, it is decompressed. Nothing else is compressed or decompressed."
        " C-STORE also for the sub-operations of C-MOVE (see queries). More than 128 contexts are"
        " spread over several associations, one after the other. What a Status of the destination comes to:\n\n"
        + table(("Status", "meaning", "then"), rows)
        + "\nC-FIND (Study Root, series level) asks a peer with `ask: [counts]` how many images it has of a study that"
        f" gathers (Number of Series Related Instances): at most {MOST_QUESTIONS} times for each state of the study,"
        f" the first two {APART_S:g} s apart.\n\n"
        "A result set goes only where every object of it has an accepted context. Forms, where one is not taken: "
        + ", ".join(IN_WORDS[word] for word in get_args(Outlines))
        + "; "
        + ", ".join(IN_WORDS[word] for word in get_args(Report))
        + ". A class whose contexts a peer rejected, or that it refused with 0x0122, is not tried there first again"
        " (`dicom-node peers learned`, `peers forget`).\n\n"
        "Storage commitment (Push Model, N-ACTION), to make sure of what was delivered: the association stays open"
        f" {HOLD_S:g} s for the report; it may also come on an association of the destination, which then gets the"
        " context whether or not it may ask for commitment itself, and the role of SCP where it proposes it. Without a"
        f" report after {REPORT_WITHIN_S:g} s, or without the service, C-FIND (Study Root, image level) by the unique"
        " keys, or by series where there are many; of a STOW-RS service QIDO-RS. What is missing is sent again, at most"
        f" {MOST_SENT_AGAIN} times.\n\n"
        "STOW-RS, to deliver results: one instance in a request, in the first of the peer's `encodings` that it can"
        " have and the service does not refuse (C122 or HTTP 415), else as it is kept, `application/dicom` in"
        " `multipart/related`. Failure Reason and Warning Reason of the instance count as the Status of the same code;"
        " an answer that names another instance is none. Redirects are not followed. Where the answer says nothing of"
        " the instance, by HTTP status:\n\n" + table(("HTTP status", "meaning", "then"), http)
    )
