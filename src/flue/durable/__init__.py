"""Accepted work that survives: submissions, their journal, runs, dispatch receipts, schedules and the event log."""
