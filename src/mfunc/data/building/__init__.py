"""Building: from files of rows to files of tokens, in flat memory and several processes."""
