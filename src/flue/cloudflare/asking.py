"""How the Worker and the objects ask objects.

A request of a client's is forwarded as it is, with headers that say which object it is for. What the project asks of
itself has requests of its own; `ASK` tells the two apart. A client cannot speak like this: every forwarded request has
these headers set anew, and objects are reached through bindings alone.
"""

from __future__ import annotations

import json
import logging
from typing import Any
from urllib.parse import quote, unquote

from flue.cloudflare.names import DurableClass
from flue.cloudflare.platform import js_bindings, js_http
from flue.cloudflare.platform.js_http import Native, Request
from flue.errors import DurabilityError

logger = logging.getLogger("flue")

ASK = "x-flue-ask"
NAME = "x-flue-object"
ROOT_PATH = "x-flue-root-path"
BODY_LIMIT = "x-flue-body-limit"
HEADERS = (ASK, NAME, ROOT_PATH, BODY_LIMIT)

FORWARDED = "forwarded"


def named(name: str) -> dict[str, str]:
    """Return the headers that name an object."""
    return {NAME: quote(name, safe="")}


def name_in(request: Request) -> str:
    """Return the name of the object that a request is for."""
    return unquote(request.header(NAME))


async def ask_object(owned: DurableClass, name: str, what: str, body: Any) -> tuple[int, Any]:
    """Ask an object something; return the status and the JSON values of its answer.

    Raises `DurabilityError` (`object_unreachable`).
    """
    headers = {ASK: what, "content-type": "application/json", **named(name)}
    request = js_http.request("POST", "https://flue.invalid/", headers=headers, body=json.dumps(body).encode())
    try:
        response = await js_bindings.ask(owned.binding, name, request)
        return response.status, json.loads(await response.read())
    except KeyError:
        raise unreachable(owned.class_name, name, "nothing is bound to its class") from None
    except (ConnectionError, ValueError) as error:
        raise unreachable(owned.class_name, name, str(error)) from error


def unreachable(class_name: str, name: str, why: str) -> DurabilityError:
    """Return the error for an object that does not answer. Only the log says why: clients may be told of the error."""
    logger.warning("The Durable Object %r of %s does not answer: %s", name, class_name, why)
    return DurabilityError(
        f"The Durable Object {name!r} of {class_name} does not answer.",
        code="object_unreachable",
        hint="Try again in a moment; nobody knows whether it has heard.",
    )


def json_answer(value: Any, status: int = 200) -> Native:
    """Return JSON values as a response."""
    return js_http.response(status, [("content-type", "application/json")], json.dumps(value).encode())
