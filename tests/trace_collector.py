"""A collector of traces that keeps what it is sent: an HTTP server that reads OTLP."""

import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

from http_server import HttpServer, QuietHandler
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class KeptSpan(NamedTuple):
    """A span as it arrived, with the attributes of the process that sent it."""

    process: dict[str, Any]
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    began: int
    ended: int
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    events: list[tuple[str, dict[str, Any]]]
    failed: bool


class TraceCollector(HttpServer):
    """Keeps spans, and every byte of them."""

    def __init__(self) -> None:
        self.spans: list[KeptSpan] = []
        self.requests = 0
        self.received = b""
        self._lock = threading.Lock()
        kept = self

        class Handler(QuietHandler):
            def do_POST(self) -> None:
                kept._keep(self.path, self.read_body())
                body = ExportTraceServiceResponse().SerializeToString()
                self.answer(200, body=body, content_type="application/x-protobuf")

        super().__init__(Handler)

    def named(self, name: str) -> list[KeptSpan]:
        return [span for span in self.spans if span.name == name]

    def _keep(self, path: str, body: bytes) -> None:
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        with self._lock:
            self.requests += 1
            self.received += body
            if path == "/v1/traces":
                self.spans += _spans_of(request)


def _spans_of(request: Any) -> Iterator[KeptSpan]:
    for resource in request.resource_spans:
        process = _attributes(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield KeptSpan(
                    process,
                    span.name,
                    span.kind,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    _attributes(span.attributes),
                    [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
                    [(event.name, _attributes(event.attributes)) for event in span.events],
                    span.status.code == 2,
                )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value")
        for pair in pairs
    }
