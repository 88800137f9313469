"""Traces for OpenTelemetry, off by default: what was done and how long it took, no text.

A request's span holds those of its forward passes. How spans are exported is OpenTelemetry's own matter: its environment
variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME`, ...) and packages decide.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import Any

from evomem._extras import require
from evomem.service.metrics import Span


def no_span(name: str, **facts: str | int) -> Any:
    """Do nothing around some work."""
    return nullcontext()


def start_traces() -> Span:
    """Return a function that opens spans, after setting up OpenTelemetry if needed.

    Raises:
        MissingExtra: OpenTelemetry is not installed.
    """
    trace = require("opentelemetry.trace", extra="traces")
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        sdk = require("opentelemetry.sdk.trace", extra="traces")
        export = require("opentelemetry.sdk.trace.export", extra="traces")
        provider = sdk.TracerProvider()
        if os.environ.get("OTEL_TRACES_EXPORTER") == "console":
            exporter = export.ConsoleSpanExporter()
        else:
            otlp = require("opentelemetry.exporter.otlp.proto.http.trace_exporter", extra="traces")
            exporter = otlp.OTLPSpanExporter()
        provider.add_span_processor(export.BatchSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
    tracer = trace.get_tracer("evomem")

    def span(name: str, **facts: str | int) -> Any:
        return tracer.start_as_current_span(
            name, attributes={f"evomem.{key}": value for key, value in facts.items()}
        )

    return span
