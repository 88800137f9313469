"""Traces say what was done and hold no text."""

import pytest
from starlette.testclient import TestClient

from evomem.service.app import make_app
from evomem.service.settings import Settings

trace = pytest.importorskip("opentelemetry.trace", reason="needs the extra [traces]")
sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="needs the extra [traces]")


def test_a_request_and_its_forward_pass_are_spans_without_text():
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans = InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)
    app = make_app(Settings(database=":memory:", encoder="hash", traces=True))
    with TestClient(app, base_url="http://localhost") as client:
        client.post("/v1/memories/acme/alice/turns", json={"text": "I live in BERGEN."})
    done = {span.name: span for span in spans.get_finished_spans()}
    assert set(done) == {"request", "encoder read"}
    parent, request = done["encoder read"].parent, done["request"].context
    assert parent is not None
    assert request is not None
    assert parent.span_id == request.span_id
    assert done["encoder read"].attributes == {"evomem.items": 1}
    shown = " ".join(span.to_json() for span in done.values())
    assert not any(word in shown for word in ("BERGEN", "alice", "acme"))
