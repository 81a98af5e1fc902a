"""Spectral layers: maps trained by their eigenvalues, w_ij = (λ_in,j − λ_out,i)·φ_ij, and folded back to plain ones."""

from parsinet.spectral.adapter import load_eigenvalues, save_eigenvalues
from parsinet.spectral.conversion import fold, spectralize
from parsinet.spectral.counting import trained_parameters
from parsinet.spectral.initialisers import INITIALISERS
from parsinet.spectral.layers import LAYERS, SpectralLayer, Spectrum, spectral_layers
from parsinet.spectral.operator import TransferOperator, transfer_operator, transfer_operators
from parsinet.spectral.relevance import eigenvalue_relevance, relevance
from parsinet.spectral.variants import VARIANTS

__all__ = [
    "INITIALISERS",
    "LAYERS",
    "VARIANTS",
    "SpectralLayer",
    "Spectrum",
    "TransferOperator",
    "eigenvalue_relevance",
    "fold",
    "load_eigenvalues",
    "relevance",
    "save_eigenvalues",
    "spectral_layers",
    "spectralize",
    "trained_parameters",
    "transfer_operator",
    "transfer_operators",
]
