"""`/agents/:name/:id/…`: what an agent's instance does, and what was accepted for it."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from starlette.responses import Response

from flue.durable.records import Submission
from flue.engine.logged import LoggedEvent
from flue.engine.wire_records import submission_record
from flue.server.agents import exposed_agent, read_session
from flue.server.call import Call, check_id, frames_of, json_response, spliced
from flue.server.event_stream import frame
from flue.server.problems import agent_not_found, invalid_request, submission_not_found, validation_failed
from flue.server.queries import after_of, last_event_id, limit_of, types_of
from flue.server.runs import abort_reason

_PLACE = re.compile(r"([0-9]{1,15})-([0-9]{1,15})\Z")


async def follow(call: Call, name: str, id: str) -> Response:
    """Stream all that an instance does, from the start or after the place that the client saw last; never ends."""
    text = call.request.headers.get("last-event-id") or call.request.query_params.get("after") or "0-0"
    place = _PLACE.match(text)
    if place is None:
        raise validation_failed("query", [("after", "Expected the id of an event of this stream.")])
    offset, index = int(place[1]), int(place[2])

    async def work() -> Response:
        service = await call.service()
        events = service.log.follow_stream(f"{name}/{id}", after=max(offset - 1, 0))
        return call.stream(_placed(events, offset, index), call.run_failure)

    return await behind_agent(call, name, id, work)


async def _placed(events: AsyncGenerator[LoggedEvent, None], offset: int, index: int) -> AsyncGenerator[bytes, None]:
    """Yield frames with the place of each event as its id: its row in the instance's log, and its index."""
    async with aclosing(events):
        async for event in events:
            # Several events share a row: skip those that the client has.
            if (event.offset, event.index) > (offset, index):
                yield frame(event.type, event.data, f"{event.offset}-{event.index}")


async def get(call: Call, name: str, id: str, submission_id: str) -> Response:
    """Return what became of a submission so far."""

    async def work() -> Response:
        found = await _submission(call, name, id, submission_id)
        return json_response(submission_record(found, redacted=(await call.service()).log_settings.redacted))

    return await behind_agent(call, name, id, work)


async def events(call: Call, name: str, id: str, submission_id: str) -> Response:
    """Return a page of a submission's events; go on with `after=` the last one's index."""
    after, types, limit = after_of(call.request), types_of(call.request), limit_of(call.request)

    async def work() -> Response:
        await _submission(call, name, id, submission_id)
        service = await call.service()
        page = await service.log.read(submission_id, after=after, types=types, limit=limit)
        return spliced(f'{{"events":[{",".join(event.data for event in page)}]}}')

    return await behind_agent(call, name, id, work)


async def stream(call: Call, name: str, id: str, submission_id: str) -> Response:
    """Stream a submission's events from the start, or after `Last-Event-ID`, until it has ended."""

    async def work() -> Response:
        await _submission(call, name, id, submission_id)
        service = await call.service()
        log = service.log.follow(submission_id, after=last_event_id(call.request))
        return call.stream(frames_of(log), call.run_failure)

    return await behind_agent(call, name, id, work)


async def abort(call: Call, name: str, id: str, submission_id: str) -> Response:
    """Abort a submission: 202 while it is still ending, 200 when it has. What has ended stays as it is."""

    async def work() -> Response:
        reason = abort_reason(await call.body.json())
        await _submission(call, name, id, submission_id)
        service = await call.service()
        found = await service.abort(submission_id, reason)
        if found is None:
            raise submission_not_found(submission_id)
        record = submission_record(found, redacted=service.log_settings.redacted)
        return json_response(record, 202 if found.outcome is None else 200)

    return await behind_agent(call, name, id, work)


async def decide(call: Call, name: str, id: str, tool_call_id: str) -> Response:
    """Approve or refuse a tool call that waits for a person."""

    async def work() -> Response:
        body = await call.body.json()
        if not isinstance(body, dict) or not isinstance(body.get("approved"), bool):
            raise invalid_request("The body must be a JSON object with `approved`, true or false.")
        reason = body.get("reason")
        if reason is not None and not isinstance(reason, str):
            raise invalid_request("`reason` must be text.")
        service = await call.service()
        await service.decide(
            name, id, tool_call_id, approved=body["approved"], reason=reason, session=read_session(body)
        )
        return json_response({"status": "accepted", "toolCallId": tool_call_id, "approved": body["approved"]}, 202)

    return await behind_agent(call, name, id, work)


async def _submission(call: Call, name: str, id: str, submission_id: str) -> Submission:
    found = await (await call.service()).get_submission(submission_id)
    # An id alone must not open another instance's work.
    if found is None or (found.target, found.instance) != (name, id) or found.kind == "workflow":
        raise submission_not_found(submission_id)
    return found


async def behind_agent(call: Call, name: str, id: str, work: Callable[[], Awaitable[Response]]) -> Response:
    """Return the answer of `work` if the agent has conversations, is exposed, and its middleware lets it pass."""
    module, exposure = exposed_agent(call, name)
    if module.agent is None:
        # A function agent has runs; conversations are its own affair.
        raise agent_not_found(name, ())
    check_id(id, "agent's instance id")
    return await call.guarded(exposure, work)
