"""Tokens: pieces of text to ids and labels."""
