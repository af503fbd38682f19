"""MindSpeed-LLM's preprocessing: its flags, its rows, its bytes."""
