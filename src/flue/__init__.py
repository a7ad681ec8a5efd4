"""Flue: an agent harness framework.

Rooms, innermost first; a room imports only rooms above it:

    errors, messages, ports, events, registrations, sse  shared data and protocols, no I/O
    definitions                                       agent, profile, tool, skill: frozen data
    harness                                           context, harness, session, turn loop, results, built-in tools
    durable                                           submissions, journal, runs, events: what survives a crash
    engine                                            claims accepted work, drives it, takes it up again after a crash
    certificates, threads                             whom to trust on the network; where tools may block
    models, sandboxes, stores, skills, mcp            implement the ports; skills from disk, tools of MCP servers
    host                                              the default ports put together; `open_context`
    observability, sync                               log lines and OpenTelemetry; the blocking face
    project                                           configuration, layout, loader
    server                                            ASGI: agents, workflows and runs over HTTP and WebSockets
    sdk                                               the client of a deployed app
    cloudflare                                        the Workers target: Durable Objects, bindings, sockets that sleep
    serve                                             a project as one server process or several, and their end
    build                                             what `flue build` writes
    dev                                               the development servers
    testing, cli
    __main__

Names are loaded when first used (PEP 562), so that `import flue` stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flue.definitions.agent import Agent, AgentConfig, AgentContext, create_agent
    from flue.definitions.budget import Budget
    from flue.definitions.profile import AgentProfile, CompactionSettings, define_agent_profile
    from flue.definitions.role import Role
    from flue.definitions.schedule import schedule
    from flue.definitions.skill import Skill, SkillInfo, define_skill
    from flue.definitions.tool import Tool, ToolContext, ToolResult, tool
    from flue.engine.dispatching import dispatch
    from flue.engine.service import DispatchReceipt
    from flue.errors import (
        AbortError,
        BudgetExceededError,
        ConfigError,
        DefinitionError,
        DurabilityError,
        FlueError,
        ModelSetupError,
        OperationError,
        OperationTimeoutError,
        ProviderError,
        ResultUnavailableError,
        SandboxError,
        SecurityError,
        SessionError,
        UsageError,
    )
    from flue.harness.call import CallHandle
    from flue.harness.context import FlueContext
    from flue.harness.harness import Harness
    from flue.harness.observe import observe
    from flue.harness.responses import PromptResponse, ResultResponse
    from flue.harness.sandbox import create_sandbox_session_env
    from flue.harness.session import Session
    from flue.harness.tools import BUILTIN_TOOL_NAMES
    from flue.host import open_context
    from flue.mcp.connect import connect_mcp_server
    from flue.mcp.failure import McpError
    from flue.mcp.server import McpServer
    from flue.messages import Cost, ImageContent, TextContent, Usage
    from flue.models import configure_provider, register_provider
    from flue.server.app import admin, asgi, lifespan
    from flue.skills import skill, skill_from_package
    from flue.sync.context import SyncContext, open_context_sync
    from flue.sync.harness import SyncHarness
    from flue.sync.session import SyncSession

_EXPORTS = {
    "definitions.agent": ("Agent", "AgentConfig", "AgentContext", "create_agent"),
    "definitions.budget": ("Budget",),
    "definitions.profile": ("AgentProfile", "CompactionSettings", "define_agent_profile"),
    "definitions.role": ("Role",),
    "definitions.schedule": ("schedule",),
    "definitions.skill": ("Skill", "SkillInfo", "define_skill"),
    "definitions.tool": ("Tool", "ToolContext", "ToolResult", "tool"),
    "engine.dispatching": ("dispatch",),
    "engine.service": ("DispatchReceipt",),
    "errors": (
        "AbortError",
        "BudgetExceededError",
        "ConfigError",
        "DefinitionError",
        "DurabilityError",
        "FlueError",
        "ModelSetupError",
        "OperationError",
        "OperationTimeoutError",
        "ProviderError",
        "ResultUnavailableError",
        "SandboxError",
        "SecurityError",
        "SessionError",
        "UsageError",
    ),
    "harness.call": ("CallHandle",),
    "harness.context": ("FlueContext",),
    "harness.harness": ("Harness",),
    "harness.observe": ("observe",),
    "harness.responses": ("PromptResponse", "ResultResponse"),
    "harness.sandbox": ("create_sandbox_session_env",),
    "harness.session": ("Session",),
    "harness.tools": ("BUILTIN_TOOL_NAMES",),
    "host": ("open_context",),
    "mcp.connect": ("connect_mcp_server",),
    "mcp.failure": ("McpError",),
    "mcp.server": ("McpServer",),
    "messages": ("Cost", "ImageContent", "TextContent", "Usage"),
    "models": ("configure_provider", "register_provider"),
    "server.app": ("admin", "asgi", "lifespan"),
    "sync.context": ("SyncContext", "open_context_sync"),
    "sync.harness": ("SyncHarness",),
    "sync.session": ("SyncSession",),
    "skills": ("skill", "skill_from_package"),
}
_MODULES = {name: module for module, names in _EXPORTS.items() for name in names}

__version__ = "0.1.0"
__all__ = [
    "BUILTIN_TOOL_NAMES",
    "AbortError",
    "Agent",
    "AgentConfig",
    "AgentContext",
    "AgentProfile",
    "Budget",
    "BudgetExceededError",
    "CallHandle",
    "CompactionSettings",
    "ConfigError",
    "Cost",
    "DefinitionError",
    "DispatchReceipt",
    "DurabilityError",
    "FlueContext",
    "FlueError",
    "Harness",
    "ImageContent",
    "McpError",
    "McpServer",
    "ModelSetupError",
    "OperationError",
    "OperationTimeoutError",
    "PromptResponse",
    "ProviderError",
    "ResultResponse",
    "ResultUnavailableError",
    "Role",
    "SandboxError",
    "SecurityError",
    "Session",
    "SessionError",
    "Skill",
    "SkillInfo",
    "SyncContext",
    "SyncHarness",
    "SyncSession",
    "TextContent",
    "Tool",
    "ToolContext",
    "ToolResult",
    "Usage",
    "UsageError",
    "__version__",
    "admin",
    "asgi",
    "configure_provider",
    "connect_mcp_server",
    "create_agent",
    "create_sandbox_session_env",
    "define_agent_profile",
    "define_skill",
    "dispatch",
    "lifespan",
    "observe",
    "open_context",
    "open_context_sync",
    "register_provider",
    "schedule",
    "skill",
    "skill_from_package",
    "tool",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'flue' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"flue.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
