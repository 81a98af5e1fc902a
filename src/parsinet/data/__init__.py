"""Data: readers that check what they read, fixed splits, standardisation, and batches whose order can be resumed bitwise."""

from parsinet.data.augment import Augmentation
from parsinet.data.batches import Batches
from parsinet.data.dataset import Dataset, Split
from parsinet.data.fingerprint import fingerprint
from parsinet.data.sources import load, names

__all__ = ["Augmentation", "Batches", "Dataset", "Split", "fingerprint", "load", "names"]
