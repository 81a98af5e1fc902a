"""Spectral layers: maps trained by their eigenvalues, w_ij = (λ_in,j − λ_out,i)·φ_ij, and folded back to plain ones."""

from parsinet.spectral.adapter import load_eigenvalues, save_eigenvalues
from parsinet.spectral.conversion import fold, spectralize
from parsinet.spectral.counting import trained_parameters
from parsinet.spectral.freezing import basis_parameters, freeze_basis, train_basis
from parsinet.spectral.initialisers import INITIALISERS
from parsinet.spectral.keeping import narrow_bases, seed_bases, share_bases
from parsinet.spectral.layers import LAYERS, SpectralLayer, Spectrum, spectral_layers
from parsinet.spectral.operator import TransferOperator, transfer_operator, transfer_operators
from parsinet.spectral.record import node_groups
from parsinet.spectral.relevance import eigenvalue_relevance, relevance
from parsinet.spectral.skips import PlainSkips, SkipBlock
from parsinet.spectral.sparse import Topology, refresh_masks, set_sparsity, sparsify, topology
from parsinet.spectral.variants import VARIANTS

__all__ = [
    "INITIALISERS",
    "LAYERS",
    "VARIANTS",
    "PlainSkips",
    "SkipBlock",
    "SpectralLayer",
    "Spectrum",
    "Topology",
    "TransferOperator",
    "basis_parameters",
    "eigenvalue_relevance",
    "fold",
    "freeze_basis",
    "load_eigenvalues",
    "narrow_bases",
    "node_groups",
    "refresh_masks",
    "relevance",
    "save_eigenvalues",
    "seed_bases",
    "set_sparsity",
    "share_bases",
    "sparsify",
    "spectral_layers",
    "spectralize",
    "topology",
    "train_basis",
    "trained_parameters",
    "transfer_operator",
    "transfer_operators",
]
