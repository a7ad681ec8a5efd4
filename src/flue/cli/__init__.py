"""The `flue` command."""
