"""Drives accepted work: claims it, journals it, takes it up again after a crash, and keeps its log of events."""
