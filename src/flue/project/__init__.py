"""A project on disk: its configuration, its layout, its environment file, and how its modules are loaded."""
