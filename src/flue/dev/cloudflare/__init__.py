"""`flue dev --target cloudflare`: the project in Cloudflare's own local runtime, built again when its files change."""
