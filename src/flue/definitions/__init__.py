"""Definitions: agents, profiles, tools and skills as frozen data, without I/O."""
