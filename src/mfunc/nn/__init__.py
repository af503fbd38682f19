"""Models as pure functions over parameter trees; one file a family."""
