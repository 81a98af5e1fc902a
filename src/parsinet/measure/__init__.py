"""Measuring a network: parameters, non-zero weights, bytes, multiply-adds and latency, counted and timed one way everywhere."""

from parsinet.measure.counting import nonzeros, parameters, stored_bytes
from parsinet.measure.examples import ExampleInputs, batch_size, resize_batch
from parsinet.measure.operations import macs
from parsinet.measure.profiling import Profile, profile
from parsinet.measure.timing import Latency, compare_latency, latency

__all__ = [
    "ExampleInputs",
    "Latency",
    "Profile",
    "batch_size",
    "compare_latency",
    "latency",
    "macs",
    "nonzeros",
    "parameters",
    "profile",
    "resize_batch",
    "stored_bytes",
]
