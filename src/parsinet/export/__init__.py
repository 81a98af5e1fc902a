"""Networks for inference elsewhere: linear layers whose exact zeros are not stored, where that is faster on this machine."""

from parsinet.export.conversion import Conversion, LayerChoice, restore, to_csr, to_dense
from parsinet.export.csr_layer import CSRLinear

__all__ = ["CSRLinear", "Conversion", "LayerChoice", "restore", "to_csr", "to_dense"]
