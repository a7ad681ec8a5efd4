"""What a project has, as the dev page shows it, and whether a payload is what a module says it takes."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from flue.definitions.profile import AgentProfile
from flue.errors import ConfigError
from flue.messages import Json
from flue.project.described import documentation, payload_schema, payload_type
from flue.project.modules import AgentModule, WorkflowModule
from flue.server.problems import Problem
from flue.server.served import Served


def project(served: Served) -> Json:
    """Return all agents and workflows."""
    return {
        "name": served.name,
        "agents": [_agent(module, served) for _, module in sorted(served.agents.items())],
        "workflows": [_workflow(module, served) for _, module in sorted(served.workflows.items())],
    }


def check_payload(module: AgentModule | WorkflowModule | None, payload: Any) -> None:
    """Raise `Problem` (400) with all issues when a payload is not what the module's `Payload` says."""
    if module is None or payload_type(module) is None:
        return
    from pydantic import TypeAdapter, ValidationError
    from pydantic.errors import PydanticUserError

    try:
        TypeAdapter(payload_type(module)).validate_json(json.dumps(payload))
    except PydanticUserError:
        return  # the list of workflows says so
    except ValidationError as error:
        issues = [{"path": list(issue["loc"]), "message": issue["msg"]} for issue in error.errors()]
        raise Problem(
            400,
            "validation_failed",
            "The payload is not what the module's Payload says.",
            "; ".join(f"{'.'.join(map(str, issue['path'])) or 'payload'}: {issue['message']}" for issue in issues),
            meta={"issues": issues},
        ) from None


def _agent(module: AgentModule, served: Served) -> Json:
    described = _module(module, served, open_to_http=module.route is not None or module.webhook)
    described["conversational"] = module.agent is not None
    if module.agent is not None and module.agent.fixed is not None:
        profile = module.agent.fixed.profile
        described["description"] = described["description"] or profile.description or ""
        described.update(_profile(profile))
    return described


def _workflow(module: WorkflowModule, served: Served) -> Json:
    return _module(module, served, open_to_http=module.route is not None)


def _module(module: AgentModule | WorkflowModule, served: Served, *, open_to_http: bool) -> Json:
    root = served.root
    inside = root is not None and module.path.is_relative_to(root)
    file = str(module.path.relative_to(root)) if root is not None and inside else module.path.name
    described: Json = {
        "name": module.name,
        "file": file,
        "description": documentation(module),
        "http": open_to_http,
        "websocket": module.websocket is not None,
    }
    try:
        described["schema"] = payload_schema(module, file)
    except ConfigError as error:
        described["schemaProblem"] = str(error)
    return described


def _profile(profile: AgentProfile) -> Json:
    model = profile.model
    return {
        "model": model if isinstance(model, str) else model.info.specifier if model else None,
        "tools": [tool.name for tool in profile.tools],
        "skills": [skill.name for skill in profile.skills],
        "subagents": [subagent.name for subagent in profile.subagents],
        "budget": None
        if profile.budget is None
        else {name: value for name, value in asdict(profile.budget).items() if value is not None},
    }
