"""How commands are answered: carried out once where the caller gives an Idempotency-Key."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import falcon
import msgspec

from slimtrack.domain.errors import SlimTrackError
from slimtrack.domain.idempotency import Answer, KeyInUseError, Once
from slimtrack.domain.order import Order
from slimtrack.http import problems
from slimtrack.http.queries import etag_of
from slimtrack.http.schemas import KEY_RULE, is_idempotency_key
from slimtrack.use_cases.changing import Changes
from slimtrack.use_cases.tracking import Tracking

KEY: Final = "Idempotency-Key"


def answer_with(media: Any, *, status: int = 200, headers: Mapping[str, str] = {}) -> Answer:
    """Make an answer with a JSON body."""
    return Answer(
        status=status,
        headers={"Content-Type": falcon.MEDIA_JSON, **headers},
        body=msgspec.json.encode(media),
    )


def answer_with_order(order: Order) -> Answer:
    """Make the answer to a command that changed an order."""
    return answer_with(order, headers={"ETag": etag_of(order.version)})


def answer_with_problem(error: SlimTrackError, *, request_id: str) -> Answer:
    """Make the answer to a command that was refused.

    Raises:
        SlimTrackError: it is not the caller's fault, or over in a moment; nothing of it may be
            stored.
    """
    problem = problems.problem_of(error)
    if problem is None or problem.status_code >= 500 or isinstance(error, KeyInUseError):
        raise error
    return Answer(
        status=problem.status_code,
        headers={"Content-Type": problems.MEDIA_TYPE, **dict(problem.headers or {})},
        body=msgspec.json.encode(problems.document_of(problem, request_id=request_id)),
    )


def execute(
    tracking: Tracking,
    req: falcon.Request,
    resp: falcon.Response,
    command: Callable[[Changes], Answer],
    *,
    body: bytes,
) -> None:
    """Carry out a command, and answer with what came of it, or came of it the first time."""

    def answered(changes: Changes) -> Answer:
        try:
            return command(changes)
        except SlimTrackError as error:
            return answer_with_problem(error, request_id=req.context.correlation_id)

    answer = tracking.execute(answered, once=_once_of(req, body))
    resp.status = falcon.code_to_http_status(answer.status)
    for name, value in answer.headers.items():
        resp.set_header(name, value)
    if answer.replayed:
        resp.set_header("Idempotent-Replayed", "true")
    resp.data = answer.body


def fingerprint_of(*parts: bytes) -> bytes:
    """Return a digest of what a command says."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.digest()


def _once_of(req: falcon.Request, body: bytes) -> Once | None:
    header = req.get_header(KEY)
    if header is None:
        return None
    key = header.strip()
    # A string of a structured header is quoted (RFC 9651, 3.3.3); many leave the quotes out.
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not is_idempotency_key(key):
        raise problems.invalid_header(KEY, KEY_RULE)
    version = req.get_header("If-Match", default="")
    return Once(
        tenant_id=req.context.principal.tenant_id,
        key=key,
        fingerprint=fingerprint_of(req.method.encode(), req.path.encode(), version.encode(), body),
    )
