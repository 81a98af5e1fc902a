"""The default data set: 1,797 handwritten digits of 8×8 pixels that come with scikit-learn."""

import torch

from parsinet.data.splitting import stratified
from parsinet.data.standardise import Raw

TEST_FRACTION = 0.2
TEST_SEED = 0


def read_digits() -> Raw:
    """Images uint8 [n, 1, 8, 8] with values 0 … 16; 359 test images, always the same: 20 % of every class, drawn with seed 0.

    Source: E. Alpaydin, C. Kaynak, Optical recognition of handwritten digits (1998), UCI, doi:10.24432/C50P49; the copy in
    sklearn.datasets.load_digits.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(bunch.target).long()
    kept, held = stratified(labels, TEST_FRACTION, TEST_SEED)
    return Raw("digits", tuple("0123456789"), (images[kept], labels[kept]), (images[held], labels[held]), largest=16)
