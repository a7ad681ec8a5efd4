"""The dev page: a project's agents, workflows and runs in the browser, for `flue dev`.

`app` answers: files of `static/`, and below `api/` what the page asks. Nothing of it is for the public: it shows every
conversation, and reaches agents and workflows without `route`. Whoever mounts it sees to it that only this machine's
browsers get in.
"""
