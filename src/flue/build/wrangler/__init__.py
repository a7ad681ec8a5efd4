"""Wrangler's configuration: read as the user wrote it, checked, and merged with what a build adds."""
