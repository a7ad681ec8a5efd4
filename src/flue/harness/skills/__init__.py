"""Skills at work: found in the workspace, listed in the system prompt, run by `session.skill` or by the model.

The path of a skill: `workspace.py` finds those in the sandbox, `catalogue.py` joins them with those of the definition,
`wording.py` puts one into words, `invoke.py` does that for `session.skill`, `activate.py` for the model's tool, and
`files.py` lets the `read` tool see the files of packaged ones.
"""
