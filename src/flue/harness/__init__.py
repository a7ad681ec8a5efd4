"""The harness: contexts, sessions, the turn loop, typed results and the built-in tools."""
