"""Networks for inference elsewhere: ONNX, .pt2, safetensors, CSR layers, bundles; compared with the network before they are written."""

from parsinet.export.agreement import Agreement
from parsinet.export.bundle_folder import bundle
from parsinet.export.card import Facts
from parsinet.export.conversion import Conversion, LayerChoice, restore, to_csr, to_dense
from parsinet.export.csr_folder import csr, load_csr
from parsinet.export.csr_layer import CSRLinear
from parsinet.export.exported import Exported
from parsinet.export.onnx_file import OnnxNetwork, onnx
from parsinet.export.program_file import torch_export
from parsinet.export.runs import Exportable, of_folder, of_run
from parsinet.export.targets import names, write
from parsinet.export.tensors_folder import safetensors

__all__ = [
    "Agreement",
    "CSRLinear",
    "Conversion",
    "Exportable",
    "Exported",
    "Facts",
    "LayerChoice",
    "OnnxNetwork",
    "bundle",
    "csr",
    "load_csr",
    "names",
    "of_folder",
    "of_run",
    "onnx",
    "restore",
    "safetensors",
    "to_csr",
    "to_dense",
    "torch_export",
    "write",
]
