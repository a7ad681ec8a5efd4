"""What runs in the processes of isolated sandboxes: a fork server, and the workers that it forks.

A worker holds one sandbox and ends with it. Nothing of this package is imported by the program that uses Flue, except
`frames` and `fork_orders`, the form of what they say to each other. Its modules, and those of `flue.sandboxes` that
they use, import only what starts in a moment: no typing, no dataclasses, no asyncio, not even `os`, whose work `posix`
does.
"""
