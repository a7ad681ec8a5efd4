"""What the platform gives, as the rest of Flue sees it: requests, sockets, timers, `fetch`, models."""
