"""Dialogue: rows to messages to pieces of text, each trained or not."""
