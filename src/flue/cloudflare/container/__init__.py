"""Containers of `@cloudflare/sandbox` as sandboxes."""
