"""The two LeNets of the pruning literature: 300-100 (fully connected) and 5-Caffe (convolutional)."""

from collections.abc import Sequence

from torch import Tensor, nn

from parsinet.errors import UsageError
from parsinet.models.checks import image_shape, positive
from parsinet.models.mlp import MLP


def lenet_300_100(input_shape: Sequence[int], classes: int) -> MLP:
    """LeNet-300-100: fc1 300, fc2 100, fc3 classes, ReLU between; 266,610 parameters and 266,200 multiply-adds on 784 inputs, 10 classes.

    LeCun, Bottou, Bengio, Haffner 1998.
    """
    return MLP(input_shape, classes, widths=(300, 100))


class LeNet5Caffe(nn.Module):
    """LeNet-5 as in Caffe's `lenet_train_test.prototxt`: conv1 20@5x5, max-pool 2, conv2 50@5x5, max-pool 2, fc1 500, ReLU, fc2 classes.

    The only ReLU follows fc1: between the convolutions max-pooling is the only non-linearity, as in the Caffe file. No padding.
    431,080 parameters and 2,293,000 multiply-adds on [1, 28, 28] with 10 classes. Other sizes ≥ 16x16 and more channels are taken; fc1
    grows with them. Shapes: [batch, channels, height, width] → [batch, classes]. Initialisation: PyTorch's default.
    Raises UsageError for anything that is not an image of at least 16x16.
    """

    def __init__(self, input_shape: Sequence[int], classes: int) -> None:
        super().__init__()
        channels, height, width = image_shape("lenet-5-caffe", input_shape)
        rows, columns = _after_kernels(height), _after_kernels(width)
        if min(rows, columns) < 1:
            raise UsageError(
                f"lenet-5-caffe: images of {height}x{width} are too small, a 5x5 kernel is larger than its feature map; use at least 16x16."
            )
        self.conv1 = nn.Conv2d(channels, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(50 * rows * columns, 500)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(500, positive("lenet-5-caffe", "classes", classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.conv1(x))
        x = self.pool(self.conv2(x))
        logits: Tensor = self.fc2(self.relu(self.fc1(x.flatten(1))))
        return logits


def _after_kernels(side: int) -> int:
    """Side of the last feature map: twice a 5-wide kernel without padding and a halving that drops the odd row."""
    return ((side - 4) // 2 - 4) // 2
