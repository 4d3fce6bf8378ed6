"""The courier: decides when studies are complete, and delivers results."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from configs.errors import NodeError
from configs.peers import Peer
from dicom_node.live_peers import LivePeers
from dicom_node.live_routes import LiveRoutes
from dicom_node.parts import Storage, blob_root, now
from dicom_node.roles.worker import worker_parts
from dicom_node.scu.association import Timeouts
from dicom_node.scu.transcoding import PixelTranscoder
from dicom_node.supervisor import RoleContext
from dicom_node.worker.aftermath import Aftermath
from dicom_node.worker.commitments import CommitmentReports, ReportParts
from dicom_node.worker.confirm import ConfirmationWatch
from dicom_node.worker.counts import ArchiveCounts, ask_by_find
from dicom_node.worker.deliver import deliver
from dicom_node.worker.describe import Describer
from dicom_node.worker.disk import DiskWatch, Room
from dicom_node.worker.keeping import SetMaker
from dicom_node.worker.parts import CourierParts
from dicom_node.worker.prior_sources import PriorSource, source_of
from dicom_node.worker.priors import PriorFetcher, PriorParts
from dicom_node.worker.watch import CourierWatch
from dicom_node.worker.workitems import WorkitemParts, WorkitemWatch
from dicom_node.worker.worklist import WorklistLookup, WorklistParts
from inference.pixel_process import PixelProcess
from inference.registry import engines
from storage.announcements import Announcements
from storage.commitments import Commitments
from storage.confirmations import Confirmations
from storage.corrections import Corrections
from storage.deletion import delete_removed_files
from storage.deliveries import Deliveries
from storage.errors import NotKept
from storage.index import Index
from storage.intake import Intake
from storage.job_book import JobBook
from storage.jobs import Delivery, Queue, Runner
from storage.ledger_report import Patience, Unexplained, account
from storage.peer_classes import PeerClasses
from storage.prior_book import PriorBook
from storage.pruning import forget_contacts, prune
from storage.reconcile import take_in_orphans
from storage.rejections import Rejections
from storage.results import ResultBook
from storage.retractions import Retractions
from storage.urgency import Pauses, Priorities
from storage.variants import Variants
from storage.workitems import Workitems

log = logging.getLogger(__name__)

_STOP_WITHIN_S = 10.0
#: Archives that are asked at once how many images they have.
_QUESTIONS_AT_ONCE = 8
#: Turns of the queue that ended are kept this long, for a look at them; then their rows alone remain.
_TURNS_KEPT = timedelta(days=7)
_CLEAN_EVERY_S = 3600.0
#: Associations that ended and refused callers are remembered this long.
_CONTACTS_KEPT = timedelta(days=30)
#: A file whose row nobody can still be waiting to commit.
_ORPHANED_AFTER = timedelta(hours=1)


def run(context: RoleContext) -> None:
    """Watch and deliver until told to stop."""
    settings = context.settings
    storage = Storage.open(settings)
    intake = storage.intake(settings)
    pixels = PixelProcess(children=1)
    queue = Queue(storage.database)
    deliveries = Deliveries(storage.database, queue)
    peers = LivePeers(context.config_dir / "peers.yaml", settings.peers)
    asking = ThreadPoolExecutor(_QUESTIONS_AT_ONCE, "archive-counts")
    ask = partial(ask_by_find, calling_ae_title=settings.dimse.ae_title)
    parts = CourierParts(
        database=storage.database,
        queue=queue,
        index=Index(storage.database),
        blobs=storage.blobs,
        deliveries=deliveries,
        classes=PeerClasses(storage.database),
        make_set=SetMaker(replace(worker_parts(settings, storage, intake, peers), decoder=pixels)),
        variants=Variants(storage.database),
        corrections=Corrections(storage.database, storage.blobs),
        announcements=Announcements(storage.database),
        peers=peers,
        routes=LiveRoutes(context.config_dir / "routes.yaml", settings.routes, peers),
        counts=ArchiveCounts(peers, ask, asking, now),
        pauses=Pauses(storage.database),
        priorities=Priorities(storage.database),
        priors=PriorBook(storage.database),
        engines=frozenset(engines(settings.engines)),
        quiet=settings.quiet,
        delivery=settings.delivery,
        dimse=settings.dimse,
        now=now,
        digest_pixels=pixels.digest,
        transcoder=PixelTranscoder(pixels),
    )
    runner = Runner(
        storage.database,
        executor_id="courier-1",
        lock_dir=settings.data_dir,
        delivery=Delivery(deliver=partial(deliver, courier=parts), book=deliveries),
    )
    runner.start()
    threads = _beside(context, storage, queue, parts, intake)
    for thread in threads:
        thread.start()
    try:
        context.ready()
        context.stop.wait()
    finally:
        for thread in threads:
            thread.join()
        asking.shutdown(cancel_futures=True)
        runner.stop(_STOP_WITHIN_S)
        pixels.close()
        intake.close()
        storage.close()


def _beside(
    context: RoleContext, storage: Storage, queue: Queue, parts: CourierParts, intake: Intake
) -> tuple[threading.Thread, ...]:
    """What goes on beside deliveries, each in a thread of its own that ends when the role is told to stop."""
    settings, peers = context.settings, parts.peers
    watch = threading.Thread(target=CourierWatch(parts, since=now()).run, args=(context.stop,), name="watch")
    cleaner = threading.Thread(target=_clean, args=(context, storage, queue), name="cleaner")
    reports = _reports(context, storage, parts.peers)
    reporter = threading.Thread(target=reports.run, args=(context.stop,), name="commitment-reports")
    confirmer = ConfirmationWatch(Confirmations(storage.database), parts)
    confirming = threading.Thread(target=confirmer.run, args=(context.stop,), name="confirmations")
    disk = DiskWatch(settings.disk, partial(_room, blob_root(settings)))
    disk_watch = threading.Thread(target=disk.run, args=(context.stop,), name="disk-watch")
    describer = threading.Thread(target=Describer(settings).run, args=(context.stop,), name="describer")
    fetcher = PriorFetcher(_prior_parts(context, parts, intake))
    priors = threading.Thread(target=fetcher.run, args=(context.stop,), name="priors")
    lookup = WorklistLookup(
        WorklistParts(parts.index, peers, parts.priorities, settings.dimse.ae_title, now),
    )
    worklists = threading.Thread(target=lookup.run, args=(context.stop,), name="worklists")
    corrections = threading.Thread(target=_correct, args=(context, storage, parts.peers), name="corrections")
    asked = WorkitemWatch(_workitems(storage, queue, parts.index))
    workitems = threading.Thread(target=asked.run, args=(context.stop, now), name="workitems")
    return (watch, cleaner, reporter, confirming, disk_watch, describer, priors, worklists, corrections, workitems)


def _prior_parts(context: RoleContext, parts: CourierParts, intake: Intake) -> PriorParts:
    def is_here(sop_instance_uid: str) -> bool:
        try:
            parts.index.instance(sop_instance_uid)
        except NotKept:
            return False
        return True

    def source(name: str, peer: Peer) -> PriorSource:
        title = context.settings.dimse.ae_title
        return source_of(name, peer, calling_ae_title=title, intake=intake, is_here=is_here)

    return PriorParts(parts.priors, parts.index, parts.blobs, parts.peers, source, now)


def _room(root: Path) -> Room:
    usage = shutil.disk_usage(root)
    return Room(usage.total, usage.free)


def _workitems(storage: Storage, queue: Queue, index: Index) -> WorkitemParts:
    database = storage.database
    return WorkitemParts(database, queue, index, Workitems(database), JobBook(database), ResultBook(database))


def _reports(context: RoleContext, storage: Storage, peers: Mapping[str, Peer]) -> CommitmentReports:
    answer_s = context.settings.dimse.answer_within_s
    return CommitmentReports(
        ReportParts(
            commitments=Commitments(storage.database, storage.blobs),
            peers=peers,
            delivery=context.settings.delivery,
            timeouts=Timeouts(associate_s=answer_s, answer_s=answer_s),
            now=now,
        )
    )


def _stuck(storage: Storage, queue: Queue, gathering_at_most_s: float) -> tuple[Unexplained, ...]:
    """Give what the ledger cannot explain: it stands where it should not stay."""
    patience = Patience(gathering_at_most_s=gathering_at_most_s)
    said = account(storage.database, storage.blobs, now(), queue=queue, patience=patience, check_files=False)
    return said.unexplained


def _correct(context: RoleContext, storage: Storage, peers: Mapping[str, Peer]) -> None:
    """Take back what depended on images that were corrected, rejected or deleted."""
    intake = storage.intake(context.settings)
    try:
        node = worker_parts(context.settings, storage, intake, peers)
        Aftermath(node, Retractions(storage.database), Rejections(storage.database)).run(context.stop)
    finally:
        intake.close()


def _clean(context: RoleContext, storage: Storage, queue: Queue) -> None:
    """At the start and from time to time: sweep what dead processes left, and forget old turns of the queue."""
    intake = storage.intake(context.settings)
    try:
        while True:
            try:
                _clean_once(context, storage, intake, queue)
            except NodeError as error:
                log.warning("not all was tidied up", extra={"action": "clean_failed", "error": error.code})
            except Exception:
                log.exception("tidying up failed: our fault", extra={"action": "clean_failed"})
            if context.stop.wait(_CLEAN_EVERY_S):
                return
    finally:
        intake.close()


def _clean_once(context: RoleContext, storage: Storage, intake: Intake, queue: Queue) -> None:
    swept = storage.blobs.sweep()
    deleted = delete_removed_files(storage.database, storage.blobs)
    before = now() - _ORPHANED_AFTER
    orphans = take_in_orphans(storage.database, storage.blobs, intake, before=before, stop=context.stop)
    pruned = prune(storage.database, queue, now() - _TURNS_KEPT)
    forgotten = forget_contacts(storage.database, now() - _CONTACTS_KEPT)
    facts = {"swept": swept, "files_deleted": deleted, "orphans_known": orphans.known, "orphans_kept": orphans.kept}
    facts |= {"turns_pruned": pruned, "contacts_forgotten": forgotten}
    if any(facts.values()):
        log.info("leftovers tidied up", extra={"action": "cleaned", **facts})
