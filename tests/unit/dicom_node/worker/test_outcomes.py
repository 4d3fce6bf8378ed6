from __future__ import annotations

import pytest

from configs.errors import NodeError
from configs.settings import DeliverySettings
from dicom_node.errors import AssociationRejected, ContextRefused, PeerRefused, PeerUnreachable
from dicom_node.worker.outcomes import STATUS, Effect, answer_to_error, answer_to_status, next_attempt_at
from storage.errors import IndexUnavailable, NotKept
from tests.builders.studies import at


@pytest.mark.parametrize(
    ("status", "effect"),
    [
        (0x0000, Effect.ACCEPTED),
        (0xB000, Effect.ACCEPTED),
        (0xB006, Effect.ACCEPTED),
        (0xB007, Effect.ACCEPTED),
        (0xBEEF, Effect.ACCEPTED),
        (0x0107, Effect.ACCEPTED),
        (0x0111, Effect.ACCEPTED),
        (0x0110, Effect.RETRY),
        (0x0122, Effect.OTHER_FORM),
        (0x0124, Effect.GIVE_UP),
        (0xA700, Effect.RETRY),
        (0xA7FF, Effect.RETRY),
        (0xA900, Effect.OTHER_FORM),
        (0xC000, Effect.OTHER_FORM),
        (0xCFFF, Effect.OTHER_FORM),
        (0xFE00, Effect.RETRY),
        (0x9999, Effect.RETRY),
        (None, Effect.RETRY),
    ],
)
def test_a_status_means_accepted_try_again_or_give_up(status: int | None, effect: Effect) -> None:
    assert answer_to_status(status).effect is effect


def test_only_plain_success_says_nothing() -> None:
    assert [first for first, _, _, meaning in STATUS if not meaning] == [0x0000]
    assert answer_to_status(0x0000).meaning == ""
    assert answer_to_status(0xA700).meaning == "0xA700 out of resources"


@pytest.mark.parametrize(
    ("error", "effect"),
    [
        (PeerUnreachable("no route"), Effect.RETRY),
        (AssociationRejected("calling AE title unknown", result=1, source=1, reason=3), Effect.GIVE_UP),
        (AssociationRejected("congestion", result=2, source=3, reason=1), Effect.RETRY),
        (AssociationRejected("limit", result=1, source=3, reason=2), Effect.RETRY),
        (ContextRefused("no presentation context"), Effect.OTHER_FORM),
        (PeerRefused("busy", status=0xA700), Effect.RETRY),
        (NotKept("no such instance"), Effect.GIVE_UP),
    ],
)
def test_a_failure_means_try_again_or_give_up(error: NodeError, effect: Effect) -> None:
    answer = answer_to_error(error)
    assert answer.effect is effect
    assert answer.meaning == str(error)


def test_a_failure_on_our_side_is_left_to_the_queue() -> None:
    with pytest.raises(IndexUnavailable):
        answer_to_error(IndexUnavailable())


def test_pauses_double_up_to_a_ceiling_and_end() -> None:
    settings = DeliverySettings(first_retry_s=4.0, retry_at_most_s=60.0, attempts=50)
    pauses = []
    for attempt in range(1, 50):
        then = next_attempt_at("d", attempt, at(0), settings)
        assert then is not None
        pauses.append((then - at(0)).total_seconds())
    assert 3.0 < pauses[0] <= 4.0
    assert 6.0 < pauses[1] <= 8.0
    assert all(45.0 < pause <= 60.0 for pause in pauses[4:])
    assert next_attempt_at("d", 50, at(0), settings) is None


def test_deliveries_that_failed_together_come_back_apart_and_always_alike() -> None:
    settings = DeliverySettings()
    moments = [next_attempt_at(f"delivery {number}", 1, at(0), settings) for number in range(20)]
    assert len(set(moments)) > 10
    assert moments[3] == next_attempt_at("delivery 3", 1, at(0), settings)
