"""Views: sets of tokens in numbers, as text, and where two of them differ."""
