"""Sources: files of every format to columns."""
