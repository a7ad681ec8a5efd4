"""Sessions and durable work as SQL that SQLite and Postgres both run: one set of transitions for every database."""
