"""`flue dev`: a server that goes on while the project's files change.

`watching` notices changes, `live` loads the project anew and swaps it in, `front` stands before the project: it lets in
only this machine's browsers, and holds the place of the dev page.
"""
