"""The command line: `parsinet train | inspect | report | watch | demo`; it wires the library and holds no logic of its own."""

from parsinet.cli.app import app, main

__all__ = ["app", "main"]
