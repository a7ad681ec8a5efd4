"""Flue on Cloudflare Workers: agents and workflows as Durable Objects."""
