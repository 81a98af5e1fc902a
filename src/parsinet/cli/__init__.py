"""The command line: `parsinet train | tune | inspect | report | watch | export | demo`; it wires the library, without logic of its own."""

from parsinet.cli.app import app, main

__all__ = ["app", "main"]
