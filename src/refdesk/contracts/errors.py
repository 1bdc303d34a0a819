"""The one error tree.

The class docstring is the default message. ``code`` is stable, documented in ``docs/reference/errors.md`` and becomes
the ``type`` of the problem details; ``status`` is its HTTP form; ``retryable`` decides whether work is tried again or
given up.
A message says what happened, with the value, and what to do next.
"""

from typing import Any, ClassVar

from refdesk.contracts.hidden_characters import clean


class RefdeskError(Exception):
    """Something went wrong inside Refdesk. Try again; if it stays, look at the service's log."""

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    wait_s: ClassVar[int | None] = None
    """What Retry-After says where whoever raises it knows no better."""

    def __init__(self, message: str | None = None, *, retry_after_s: int | None = None, **details: Any) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())
        self.retry_after_s = self.wait_s if retry_after_s is None else retry_after_s
        self.details = details
        """Extension members of the problem: ``limit``, ``actual``, ``field`` …"""

    @property
    def message(self) -> str:
        return str(self.args[0])


class InvalidRequest(RefdeskError):
    """The request is not valid. Compare it with /openapi.json."""

    code = "invalid-request"
    title = "Invalid request"
    status = 422


class MalformedJson(InvalidRequest):
    """The body is not valid JSON. Send a JSON object with Content-Type: application/json."""

    code = "malformed-json"
    title = "Malformed JSON"
    status = 422


class MalformedRequest(RefdeskError):
    """What was sent is not HTTP. Compare it with RFC 9112."""

    code = "malformed-request"
    title = "Malformed request"
    status = 400


class QuestionTooLong(InvalidRequest):
    """The question is too long. Shorten it, or put the text into a document."""

    code = "question-too-long"
    title = "Question too long"


class OutputLimitTooHigh(InvalidRequest):
    """More output tokens were asked for than is allowed. Ask for fewer."""

    code = "output-limit-too-high"
    title = "Output limit too high"


class Unauthenticated(RefdeskError):
    """No valid API key was sent (keys may expire). Send `Authorization: Bearer <key>`; `refdesk keys create NAME` makes one."""

    code = "unauthenticated"
    title = "Unauthenticated"
    status = 401


class SignInFailed(RefdeskError):
    """The sign-in did not succeed. Begin again."""

    code = "sign-in-failed"
    title = "Sign-in failed"
    status = 400


class LogoutRefused(RefdeskError):
    """The logout token is not valid. Send one that the identity provider has just signed for this desk."""

    code = "logout-refused"
    title = "Logout refused"
    status = 400


class Forbidden(RefdeskError):
    """Your key may not do this. Ask an administrator for the right."""

    code = "forbidden"
    title = "Forbidden"
    status = 403


class AccessChanged(RefdeskError):
    """Your key's groups or role were changed while this was open. Send it again, with the rights of now."""

    code = "access-changed"
    title = "Access changed"
    status = 409
    retryable = True


class NotFound(RefdeskError):
    """There is nothing here under this id, or you may not see it."""

    code = "not-found"
    title = "Not found"
    status = 404


class Misdirected(RefdeskError):
    """This service does not go by the name in `Host`. Use one of its own, or add this one to REFDESK_ALLOWED_HOSTS."""

    code = "misdirected"
    title = "Misdirected request"
    status = 421


class MethodNotAllowed(RefdeskError):
    """This address does not take that method. See /openapi.json."""

    code = "method-not-allowed"
    title = "Method not allowed"
    status = 405


class Conflict(RefdeskError):
    """The request conflicts with what is already there. Read the current state and try again."""

    code = "conflict"
    title = "Conflict"
    status = 409


class NotYetSearchable(RefdeskError):
    """The change you asked to wait for is not searchable yet. Try again shortly, or raise wait_seconds."""

    code = "not-yet-searchable"
    title = "Not yet searchable"
    status = 409
    retryable = True


class Expired(RefdeskError):
    """This answer was kept for a while and is gone now. Ask the question again."""

    code = "expired"
    title = "Expired"
    status = 410


class AnswerWithdrawn(RefdeskError):
    """A document that this answer stands on was deleted, or closed to you, since. Ask the question again."""

    code = "answer-withdrawn"
    title = "Answer withdrawn"
    status = 410


class AnswerRewritten(RefdeskError):
    """What you saw last of this answer was lost with the process that wrote it. Read the answer again."""

    code = "answer-rewritten"
    title = "Answer rewritten"
    status = 409


class VersionMismatch(RefdeskError):
    """The document has changed since you read it. Fetch it again and repeat the change with its new ETag."""

    code = "version-mismatch"
    title = "Version mismatch"
    status = 412


class BodyTooLarge(RefdeskError):
    """The upload is too large. Split it, or raise REFDESK_UPLOAD_BYTES_MAX."""

    code = "body-too-large"
    title = "Upload too large"
    status = 413


class HeadersTooLarge(RefdeskError):
    """The request line and headers are too large. Send fewer or shorter headers."""

    code = "headers-too-large"
    title = "Headers too large"
    status = 431


class RequestTooSlow(RefdeskError):
    """The request took too long to arrive, or stopped. Send it again, over a faster connection."""

    code = "request-too-slow"
    title = "Request too slow"
    status = 408


class UploadTooSlow(RequestTooSlow):
    """The upload took too long or stopped. Send it again, over a faster connection."""

    code = "upload-too-slow"
    title = "Upload too slow"
    status = 408


class UnsupportedMediaType(RefdeskError):
    """This kind of file cannot be read. Convert it to PDF, DOCX, HTML or Markdown."""

    code = "unsupported-media-type"
    title = "Unsupported media type"
    status = 415


class TooManyRequests(RefdeskError):
    """You have used up your share for now. Wait as long as Retry-After says."""

    code = "rate-limited"
    title = "Too many requests"
    status = 429
    retryable = True
    wait_s = 1


class Overloaded(RefdeskError):
    """The service is at capacity. Wait as long as Retry-After says."""

    code = "overloaded"
    title = "Overloaded"
    status = 503
    retryable = True
    wait_s = 2


class Unavailable(RefdeskError):
    """A part that Refdesk depends on does not answer. It is tried again by itself; `refdesk doctor` says which."""

    code = "unavailable"
    title = "Temporarily unavailable"
    status = 503
    retryable = True
    wait_s = 2


class InsufficientStorage(Unavailable):
    """There is no space left to store this. Free some space; the same request then succeeds."""

    code = "insufficient-storage"
    title = "Insufficient storage"
    status = 507
    wait_s = 10


class ReadOnly(Unavailable):
    """A part that Refdesk writes to takes no writes at the moment, as during a failover. Try again shortly."""

    code = "read-only"
    title = "Read only"
    wait_s = 5


class PoolExhausted(Unavailable):
    """Every connection for this kind of work is busy. Try again shortly; `docs/howto/operate.md` lists the pools."""

    code = "pool-exhausted"
    title = "No connection free"


class TransactionConflict(Unavailable):
    """The database ended this change so that another one could go on. Try again."""

    code = "transaction-conflict"
    title = "Transaction conflict"
    wait_s = 1


class ContentMissing(RefdeskError):
    """The file of this document is missing or damaged in the content directory. Restore it from a backup, or upload it again."""

    code = "content-missing"
    title = "Content missing"
    status = 410


class BrokerFull(Unavailable):
    """NATS has no room for another message. Documents are taken all the same, and told as soon as there is room."""

    code = "broker-full"
    title = "NATS is full"


class ModelFailed(RefdeskError):
    """The language model failed. Ask again; if it stays, check REFDESK_LLM_URL with `refdesk doctor`."""

    code = "model-failed"
    title = "The language model failed"
    status = 502
    retryable = True


class DocumentRejected(RefdeskError):
    """The document cannot be indexed."""

    code = "document-rejected"
    title = "Document cannot be indexed"
    status = 422


class ConfigurationError(RefdeskError):
    """A setting is wrong. `refdesk doctor` shows every setting and where it came from."""

    code = "configuration"
    title = "Configuration error"
    status = 500


def problem(error: RefdeskError) -> dict[str, Any]:
    """The error as RFC 9457 problem details. What it repeats of others, a model among them, is cleaned."""
    details: dict[str, Any] = {
        "type": error.code,
        "title": error.title,
        "status": error.status,
        "detail": clean(error.message),
        **error.details,
    }
    if error.retryable:
        details["retryable"] = True
    if error.retry_after_s is not None:
        details["retry_after"] = error.retry_after_s
    return details
