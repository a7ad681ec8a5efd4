"""The built-in tools: one file each, over a session environment."""
