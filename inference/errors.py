"""What can go wrong between pixels and results."""

from __future__ import annotations

from configs.errors import NodeError


class InferenceError(NodeError):
    """No answer could be made."""


class UnsuitableStudy(InferenceError):
    """The engine cannot read these images; trying again will not help."""


class EngineUnavailable(InferenceError):
    """The engine's device or weights are missing; later."""


class WrongWeights(EngineUnavailable):
    """The weight files are not those that the engine needs."""


class UnusableAnswer(InferenceError):
    """The answer cannot be encoded as a correct DICOM object."""


class UnreadablePixels(InferenceError):
    """The pixel data cannot be decoded."""


class NoSuchFrame(InferenceError):
    """The instance has no such frame."""


class CannotTranscode(InferenceError):
    """The pixels cannot be written in that transfer syntax without loss."""


class PixelWorkStopped(UnreadablePixels):
    """Decoding took more time or memory than it may, or broke its process; the node is unharmed."""


class ModelNotAvailable(InferenceError):
    """No language model is there to answer."""


class UnknownModel(InferenceError):
    """No model of that name is served."""


class ModelBusy(InferenceError):
    """The model has as much to do as it may; come again later."""


class ModelFailed(InferenceError):
    """The model began an answer and did not bring it to its end, or answered what is none."""


class ModelTimedOut(ModelFailed):
    """The model took longer than it may."""


class ModelRefused(InferenceError):
    """The model cannot be asked this."""

    def __init__(self, message: str | None = None, *, http_status: int = 400) -> None:
        super().__init__(message, http_status=http_status)
        self.http_status = http_status
