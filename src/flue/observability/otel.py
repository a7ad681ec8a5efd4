"""OpenTelemetry: traces and metrics after the semantic conventions for generative AI."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from flue.errors import UsageError
from flue.harness.observe import subscribe

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider


def instrument(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    capture_content: bool = False,
) -> Callable[[], None]:
    """Make spans and metrics of what agents do, in contexts opened from now on; return a function that ends it.

    Without providers the global ones are used. Every call on a session is a span, with a span inside it for each
    request to a model, for each tool call, and for the calls of the tasks it gives away; they are current while they
    last, so that spans of your tools and of an instrumented HTTP client lie inside them. Names and attributes are
    those of github.com/open-telemetry/semantic-conventions-genai, which are not stable yet; what they have no word
    for begins with `flue.`.

    What users, models and tools wrote, and the texts of errors, are recorded only with `capture_content`.

    Raises `UsageError` (code `missing_package`) without the extra `flue-agents[otel]`.
    """
    try:
        from flue.observability.spans import Spans
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "opentelemetry":
            raise
        raise UsageError(
            "instrument() needs the package opentelemetry-api, which is not installed.",
            code="missing_package",
            hint="Install it with: pip install 'flue-agents[otel]'",
        ) from error

    spans = Spans(tracer_provider, meter_provider, capture_content=capture_content)
    unsubscribe = subscribe(spans, reads_only=True)

    def uninstrument() -> None:
        unsubscribe()
        spans.close()

    return uninstrument
