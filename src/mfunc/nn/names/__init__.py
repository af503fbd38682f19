"""Checkpoint name maps as data: ours <-> Hugging Face. Configs too."""
