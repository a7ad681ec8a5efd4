"""The parts of the fake provider server; `flue.testing.provider_server` is the way in."""
