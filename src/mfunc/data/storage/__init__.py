"""Storage: rows and tokens in files, whole or not at all, with what made them."""
