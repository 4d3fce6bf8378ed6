"""What can go wrong with keeping and finding."""

from __future__ import annotations

from configs.errors import NodeError


class StorageError(NodeError):
    """Something could not be kept or found."""


class UnreadableInstance(StorageError):
    """The bytes are no DICOM instance."""


class UnsupportedSyntax(StorageError):
    """The transfer syntax is none of DICOM."""


class SopClassMismatch(StorageError):
    """The data set is of another SOP Class or Instance than was announced."""


class NotKept(StorageError):
    """No such study, series or instance is kept here."""


class DiskFull(StorageError):
    """The disk reserve is reached; nothing more is kept until space returns."""


class IndexUnavailable(StorageError):
    """The database does not answer."""


class IndexBusy(IndexUnavailable):
    """Others write what this needs at the same time; trying again helps."""


class CommitUnknown(IndexUnavailable):
    """The database went away in the middle of a commit: it may have happened."""


class ForbiddenTransition(StorageError):
    """The ledger does not allow this change of state."""


class Undeletable(StorageError):
    """It may not be deleted."""


class Inapplicable(StorageError):
    """The correction cannot be made."""


class WorkitemConflict(StorageError):
    """The state of the work item, or who performs it, does not allow this."""


class SubscriptionRefused(StorageError):
    """The subscriber is another's, or there are too many subscriptions."""


class KeyRefused(StorageError):
    """No such key can be made."""


class MalformedQuery(StorageError):
    """A query names no attribute of DICOM, or a value cannot be matched as its attribute asks."""


class AlreadyAnnounced(StorageError):
    """An announcement of this SOP Instance UID was made before."""


class StepEnded(StorageError):
    """The procedure step is completed or discontinued; it never changes again."""
