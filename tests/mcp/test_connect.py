"""What `connect_mcp_server` refuses before it connects."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import pytest

import flue
from flue.errors import UsageError
from flue.mcp import connect_mcp_server


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "give either url= or command="),
        ({"url": "http://x/", "command": ["x"]}, "give either url= or command="),
        ({"url": "x"}, "needs http or https and a host"),
        ({"url": "file:///etc/passwd"}, "needs http or https"),
        ({"url": 3}, "cannot be read"),
        ({"url": "http://x/", "transport": "websocket"}, "unknown transport 'websocket'"),
        ({"url": "http://x/", "env": {}}, "env= and cwd= go with command="),
        ({"url": "http://x/", "headers": {"A": 1}}, r"headers\['A'\] is not text"),
        ({"url": "http://x/", "auth": "token"}, "auth must be a function or an httpx2.Auth, got str"),
        ({"command": "npx server"}, "command must be a list"),
        ({"command": []}, "command must be a list"),
        ({"command": ["x", 1]}, "every part of command must be text"),
        ({"command": ["x"], "headers": {}}, "go with url="),
        ({"command": ["x"], "cwd": "/no/such/folder"}, "is not a directory"),
        ({"command": ["x"], "env": {"A": 1}}, r"env\['A'\] is not text"),
        ({"url": "http://x/", "timeout": 0}, "timeout must be more than 0 seconds"),
        ({"url": "http://x/", "connect_timeout": -1}, "connect_timeout must be more than 0 seconds"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused_at_once(arguments: Any, problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        connect_mcp_server("shop", **arguments)
    assert caught.value.code == "invalid_mcp_server"


@pytest.mark.parametrize("name", ["", " ", 3])
def test_a_server_needs_a_name(name: Any) -> None:
    with pytest.raises(UsageError, match="needs a name"):
        connect_mcp_server(name, url="http://x/")


@pytest.mark.parametrize("installed", [None, "1.28.0"])
def test_without_the_sdk_the_error_says_what_to_install(installed: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(_: str) -> str:
        if installed is None:
            raise importlib.metadata.PackageNotFoundError
        return installed

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(UsageError, match=r'pip install "flue-agents\[mcp\]"') as caught:
        connect_mcp_server("shop", url="http://x/")
    assert caught.value.code == "missing_package"


def test_the_front_door_offers_it() -> None:
    assert flue.connect_mcp_server is connect_mcp_server
