"""What `flue build --target cloudflare` decides before it writes anything: names, classes, wrangler configuration.

Only `wrangler_file` reads files; everything else turns data into data, the same for the same input.
"""
