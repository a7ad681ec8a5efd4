"""A Durable Object's own SQLite: sessions, durable work, and the alarm that changes with them."""
