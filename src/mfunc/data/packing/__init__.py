"""Packing: samples cut, padded, or side by side in rows of one length."""
