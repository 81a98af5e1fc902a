"""One rule per ATen operator, in one table: how it passes labels from its inputs to its outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from parsinet.structure.counting import note_shape
from parsinet.structure.rules import elementwise as e
from parsinet.structure.rules import matrices, pixels, places, sampling
from parsinet.structure.rules import normalisation as n
from parsinet.structure.rules import pieces as p
from parsinet.structure.rules import products as m
from parsinet.structure.rules import recurrent as r
from parsinet.structure.rules import shape as s
from parsinet.structure.rules.attention import attention
from parsinet.structure.rules.convolution import conv_transpose, convolution
from parsinet.structure.rules.embedding import embedding, embedding_bag

Rule = Callable[..., Any]


def _table(*entries: tuple[str, Rule]) -> dict[str, Rule]:
    table: dict[str, Rule] = {}
    for names, rule in entries:
        for name in names.split():
            assert name not in table, f"two rules for {name}"
            table[name] = rule
    return table


RULES: dict[str, Rule] = _table(
    ("linear", m.linear),
    ("matmul mm bmm mv", m.matmul),
    ("addmm baddbmm", m.addmm),
    ("addmv", m.addmv),
    ("grouped_mm _grouped_mm grouped_mm_fallback", m.grouped_mm),
    ("dot vdot", m.dot),
    ("outer", m.outer),
    ("bilinear", m.bilinear),
    ("einsum", m.einsum),
    ("conv1d conv2d conv3d", convolution),
    ("conv_transpose1d conv_transpose2d conv_transpose3d", conv_transpose),
    ("scaled_dot_product_attention", attention),
    ("embedding", embedding),
    ("embedding_bag _embedding_bag _embedding_bag_forward_only", embedding_bag),
    ("batch_norm", n.batch_norm),
    ("_native_batch_norm_legit_no_training", n.batch_norm_evaluated),
    ("_native_batch_norm_legit_functional", n.batch_norm_trained),
    ("instance_norm", n.instance_norm),
    ("layer_norm", n.layer_norm),
    ("rms_norm", n.rms_norm),
    ("group_norm", n.group_norm),
    ("softmax log_softmax _softmax _log_softmax special_softmax special_log_softmax", n.softmax),
    ("_weight_norm", n.weight_norm),
    ("unit_rows", n.unit_rows),
    ("hardswish copy log_sigmoid masked_fill mse_loss l1_loss polar __and__ __or__ __xor__", e.pointwise),
    ("add sub rsub maximum minimum max.other min.other fmax fmin hypot complex", e.added),
    ("where", e.chosen),
    ("where.default nonzero_numpy", e.places),
    ("nonzero argwhere", e.place_rows),
    ("lerp", e.blended),
    ("addcmul addcdiv", e.product_added),
    ("glu", e.glu),
    ("prelu", e.prelu),
    ("view reshape _unsafe_view flatten unflatten view_as reshape_as ravel", s.reshape),
    ("permute", s.permute),
    ("transpose swapaxes swapdims t", s.transpose),
    ("numpy_T", lambda ctx, x: s.permute(ctx, x, list(range(len(x.axes)))[::-1])),
    ("movedim moveaxis", s.movedim),
    ("mT adjoint", lambda ctx, x: s.transpose(ctx, x, -2, -1)),
    ("squeeze", s.squeeze),
    ("unsqueeze", s.unsqueeze),
    ("expand expand_as broadcast_to", s.expand),
    ("repeat", s.repeat),
    ("tile", s.tile),
    ("repeat_interleave", s.repeat_interleave),
    ("slice", p.slice_),
    ("narrow", p.narrow),
    ("select", p.select),
    ("unbind", p.unbind),
    ("split", p.split),
    ("split_with_sizes", p.split_with_sizes),
    ("chunk", p.chunk),
    ("tensor_split", p.tensor_split),
    ("hsplit", p.hsplit),
    ("vsplit", p.tensor_split),
    ("dsplit", p.dsplit),
    ("index", places.index),
    ("index_select", places.index_select),
    ("gather", places.gather),
    ("scatter scatter_add scatter_reduce", places.scatter),
    ("index_add index_copy index_fill index_reduce", places.index_add),
    ("index_put _unsafe_index_put", places.index_put),
    ("masked_scatter", places.masked_scatter),
    ("view_as_complex", s.view_as_complex),
    ("view_as_real", s.view_as_real),
    ("slice_scatter", p.slice_scatter),
    ("tril triu", places.triangle),
    ("diagonal", places.diagonal),
    ("_fft_r2c _fft_c2r _fft_c2c", places.fourier),
    ("histc bincount", places.histogram),
    ("cat concat concatenate", p.cat),
    ("stack", p.stack),
    ("pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d", p.pad),
    ("pixel_shuffle", pixels.pixel_shuffle),
    ("pixel_unshuffle", pixels.pixel_unshuffle),
    ("channel_shuffle", pixels.channel_shuffle),
    ("roll flip", places.along),
    ("diff", places.differences),
    ("grid_sampler_2d grid_sampler_3d", sampling.grid_sampler),
    ("unfold", sampling.unfold),
    ("col2im", sampling.col2im),
    ("max_unpool2d max_unpool3d", sampling.max_unpool),
    ("searchsorted", places.searchsorted),
    ("bucketize", places.bucketize),
    ("_cdist_forward cdist", matrices.cdist),
    ("inverse linalg_inv linalg_pinv linalg_solve linalg_solve_triangular", matrices.of_matrices),
    (
        "linalg_cholesky linalg_qr linalg_lu linalg_svd linalg_svdvals linalg_eig linalg_eigh linalg_eigvals linalg_eigvalsh",
        matrices.of_matrices,
    ),
    ("linalg_matrix_exp matrix_exp linalg_matrix_power linalg_det det linalg_slogdet slogdet logdet", matrices.of_matrices),
    ("lstm", r.lstm),
    ("gru", r.gru),
    ("rnn_tanh rnn_relu", r.rnn),
    ("lstm_cell", r.lstm_cell),
    ("gru_cell", r.gru_cell),
    ("rnn_tanh_cell rnn_relu_cell", r.rnn_cell),
    ("contiguous clone to _to_copy type_as detach alias lift_fresh lift_fresh_copy positive float half double", e.same),
    ("dropout feature_dropout alpha_dropout feature_alpha_dropout rand_like randn_like randint_like bernoulli", e.same),
    ("rrelu normal_ normal_functional uniform uniform_ bernoulli_ exponential_", e.same),
    ("conj _conj _conj_physical resolve_conj resolve_neg _neg_view real imag", e.same),
    ("native_dropout", e.same_with_mask),
    ("normal", e.pointwise),
    ("fill fill_ zero_", e.same),
    ("_assert_tensor_metadata", note_shape),
    ("avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d", e.positions),
    ("adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d", e.positions),
    ("upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_bicubic2d", e.positions),
    ("upsample_trilinear3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa", e.positions),
    ("_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d", e.positions),
    ("max_pool2d_with_indices max_pool3d_with_indices", e.positions_with_indices),
    ("adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d", e.positions_with_indices),
    ("fractional_max_pool2d fractional_max_pool3d", e.fractional_pool),
    ("mean nanmean amax amin max min prod any all logsumexp median count_nonzero", e.reduce),
    ("sum nansum", e.total),
    ("argmax argmin", e.position),
    ("norm linalg_vector_norm", e.norm),
    ("std_mean var_mean", e.moments),
    ("topk sort", e.ordered),
    ("max.dim min.dim median.dim nanmedian.dim mode", e.reduce_pair),
    ("kthvalue", e.kthvalue),
    ("quantile nanquantile", e.quantile),
    ("var std", e.variance),
    ("cumsum cumprod logcumsumexp", e.along_axis),
    ("cummax cummin", e.along_axis_pair),
    (
        "rand randn randint zeros ones full empty new_zeros new_ones new_full new_empty scalar_tensor",
        e.free_constant,
    ),
    ("zeros_like ones_like full_like empty_like", e.constant_like),
    ("arange linspace eye triu_indices tril_indices", e.fixed_constant),
)
