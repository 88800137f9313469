"""Whatever the description of the interface allows, and what it does not, gets a sensible answer."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.service.http.running import running

pytestmark = pytest.mark.enable_socket  # to a service of this process, on loopback

EXAMPLES = 200


@pytest.mark.filterwarnings("ignore::UserWarning")  # of schemathesis, about its own strategies
def test_no_request_breaks_the_service_or_its_description():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schemathesis = pytest.importorskip("schemathesis", reason="needs the extra [dev]")

    @schemathesis.serializer("application/x-ndjson")
    def as_lines(_, value):
        return value.encode("utf-8", "replace") if isinstance(value, str) else b"{}"

    checks = [
        schemathesis.checks.not_a_server_error,
        schemathesis.checks.status_code_conformance,
        schemathesis.checks.content_type_conformance,
        schemathesis.checks.response_schema_conformance,
    ]
    with running() as service:
        schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
        schema = schema.exclude(path="/v1/admin/keys", method="POST")  # else all others want one
        strategies = [
            operation.ok().as_strategy(generation_mode=mode)
            for operation in schema.get_all_operations()
            for mode in schemathesis.GenerationMode
        ]

        @settings(max_examples=EXAMPLES, phases=[Phase.generate])
        @given(case=st.one_of(strategies))
        def ask(case):
            case.call_and_validate(checks=checks)

        ask()
