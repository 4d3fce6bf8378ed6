"""Whatever the OpenAPI file lets be asked is answered by intention: never by an error of ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from configs.settings import Settings
from storage.blobs import LocalBlobs
from storage.database import Database
from tests.builders.ct import make_ct_instance, make_ct_series, uid
from tests.builders.web import ADMIN_KEY, PaperWeb

#: Examples of each operation; `make chaos` is for more.
EXAMPLES = 6
NAMED = {"study": uid(1), "study_instance_uid": uid(1), "series": uid(1, 1), "instance": uid(1, 1, 1), "frames": "1"}
QUERY_NAMED = {"studyUID": uid(1), "seriesUID": uid(1, 1), "objectUID": uid(1, 1, 1), "requestType": "WADO"}


@pytest.fixture
def stocked(sqlite_database: Database, blobs: LocalBlobs) -> Iterator[PaperWeb]:
    """The application with every optional service, and two studies in it."""
    web = PaperWeb(
        sqlite_database, blobs, Settings.model_validate({"disk": {"reserve_mb": 0}, "http": {"delete": True}})
    )
    for each in (*make_ct_series(2), make_ct_instance(study=2)):
        web.receive(each)
    yield web
    web.close()


@pytest.mark.timeout(240)
def test_no_request_that_the_schema_allows_meets_an_error_of_ours(stocked: PaperWeb) -> None:
    schema = schemathesis.openapi.from_dict(stocked.app.openapi())
    client = stocked.client(key=ADMIN_KEY)
    failures: list[str] = []
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 50
    for operation in operations:

        @seed(20261124)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(), named=st.sampled_from([True, True, False]))
        def ask(case: Any, named: bool) -> None:
            if named:  # what is there, with whatever else is generated
                case.path_parameters = {
                    name: NAMED.get(name, value) for name, value in (case.path_parameters or {}).items()
                }
                case.query = {name: QUERY_NAMED.get(name, value) for name, value in (case.query or {}).items()}
            sent = case.as_transport_kwargs(base_url="http://127.0.0.1:8080")
            sent["headers"] = {**sent.get("headers", {}), "Authorization": f"Bearer {ADMIN_KEY}"}
            answer = client.request(**{key: value for key, value in sent.items() if key in _TAKEN})
            if answer.status_code == 500 or not answer.headers.get("x-content-type-options"):
                failures.append(f"{case.method} {sent['url']} {sent.get('params')}: {answer.status_code}")

        ask()
    assert failures == []


_TAKEN = ("method", "url", "params", "headers", "content", "data", "files", "json")
