"""A project as a server process: listening, admission, versions of the code, and the end within seconds.

`process` handles signals, `running` serves until one comes, `http` is the server on a socket, `gate` lets requests in
or not any more, `site` holds the engine and the version of the code that answers, `lifespan` is an application's own
start and end, `source` loads the project and its environment.
"""
