"""Compaction: a long conversation is summarised so that it goes on fitting the model's context window.

sizes      how large a conversation is, and when that is too large
cut        where the kept part begins
summary    what the model is asked to write
compact    the three together, over a session's history
"""
