"""Thin adapters to other people's training loops; each is imported by name, and needs the package it adapts to."""

__all__: list[str] = []
