"""Adapters: small trees that are trained beside frozen parameters; one file a method."""
