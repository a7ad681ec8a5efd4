"""Prints the spans of one prompt; needs opentelemetry-sdk: python examples/observability/trace.py"""

import asyncio
import os
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from choose_model import choose_model
from flue import create_agent, open_context
from flue.observability import instrument


class Printer(SpanExporter):
    """In the place of an exporter for Jaeger, Grafana, Honeycomb, …"""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            attributes = span.attributes or {}
            print(f"{span.name}  {attributes.get('gen_ai.usage.output_tokens', '')}".rstrip())
        return SpanExportResult.SUCCESS


async def main() -> None:
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(Printer()))
    instrument(tracer_provider=tracers)
    async with open_context() as ctx:
        harness = await ctx.init(create_agent(model=choose_model(os.environ)))
        session = await harness.session()
        await session.fs.write_file("library.md", "The library is open from 9 to 18 on weekdays.\n")
        await session.prompt("When is the library open?")


asyncio.run(main())
