"""What the tests of the Cloudflare configuration share: a project's classes, and the configurations of the guides."""

from __future__ import annotations

import functools
from typing import Any

from flue.build.wrangler.additions import Additions
from flue.build.wrangler.merge import merge_wrangler
from flue.build.wrangler.own_exports import OwnExports
from flue.cloudflare.names import durable_classes

CLASSES = durable_classes({"assistant": "agents/assistant.py"}, {"translate": "workflows/translate.py"})
FLUE_BINDINGS = [
    {"name": "Assistant", "class_name": "Assistant"},
    {"name": "FLUE_WORKFLOW_TRANSLATE", "class_name": "TranslateWorkflow"},
    {"name": "FLUE_REGISTRY", "class_name": "FlueRegistry"},
]
FLUE_MIGRATIONS = [
    {"tag": f"flue-class-{name}", "new_sqlite_classes": [name]}
    for name in ("Assistant", "FlueRegistry", "TranslateWorkflow")
]

# The guide "Deploy Agents on Cloudflare", section on remote sandboxes.
ONE_SANDBOX = """
{
  "$schema": "https://workers.cloudflare.com/schema/wrangler.json",
  "name": "my-agent",
  "compatibility_date": "2026-04-01",
  "compatibility_flags": ["nodejs_compat"],
  "durable_objects": {
    "bindings": [{ "class_name": "Sandbox", "name": "Sandbox" }]
  },
  "migrations": [{ "tag": "v1", "new_sqlite_classes": ["Sandbox"] }],
  "containers": [{ "class_name": "Sandbox", "image": "./Dockerfile" }]
}
"""
# The same guide, "Multiple sandboxes".
TWO_SANDBOXES = """
{
  "durable_objects": {
    "bindings": [
      { "class_name": "PyBoxSandbox", "name": "PyBox" },
      { "class_name": "NodeSandbox", "name": "NodeBox" }
    ]
  },
  "migrations": [
    { "tag": "v1", "new_sqlite_classes": ["PyBoxSandbox", "NodeSandbox"] }
  ],
  "containers": [
    { "class_name": "PyBoxSandbox", "image": "./docker/python.Dockerfile" },
    { "class_name": "NodeSandbox", "image": "./docker/node.Dockerfile" }
  ]
}
"""
# The same guide, "Secure egress with outbound Workers".
OUTBOUND = """
import { Sandbox } from '@cloudflare/sandbox';

export class MySandbox extends Sandbox {
  static outboundByHost = {
    'api.github.com': (request, env, ctx) => {
      const headers = new Headers(request.headers);
      headers.set('Authorization', `Bearer ${env.GITHUB_TOKEN}`);
      return fetch(request, { headers });
    },
  };
}
"""


additions = functools.partial(
    Additions, classes=CLASSES, main="src/entry.py", default_name="my-agent", sandbox_package=True
)
merge = merge_wrangler


def javascript(*names: str) -> OwnExports:
    """Return what a cloudflare.js with these classes offers."""
    return OwnExports(javascript=frozenset(names), javascript_file=".flue/cloudflare.js")


def bindings(*classes: str, **more: Any) -> dict[str, Any]:
    """Return a block that binds each class under its own name."""
    return {"durable_objects": {"bindings": [{"name": name, "class_name": name} for name in classes]}, **more}
