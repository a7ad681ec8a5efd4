"""What `flue build --target cloudflare` writes: a Python Worker, its configuration, and what both are made of.

`build` puts it together. Names, classes and the merge of configurations turn data into data; the other modules read the
project, run pip and Node, and write.
"""
