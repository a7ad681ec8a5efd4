"""The client of a deployed app: its agents, workflows and runs over HTTP, server-sent events and WebSockets."""
