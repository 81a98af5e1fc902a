"""VGG-Small, the six-convolution net of the quantisation literature."""

from collections.abc import Sequence

from torch import Tensor, nn

from parsinet.errors import UsageError
from parsinet.models.checks import image_shape, positive


class VGGSmall(nn.Module):
    """VGG-Small: 2x(128 conv3) – pool 2 – 2x(256 conv3) – pool 2 – 2x(512 conv3) – pool 2 – fc.

    Each convolution (conv1 … conv6, 3x3, padding 1, no bias) is followed by batch norm (bn1 … bn6) and ReLU (relu1 … relu6);
    max-pooling after conv2, conv4, conv6; then one linear layer `fc`. Full precision here. 4,660,106 parameters on [3, 32, 32] with
    10 classes. `width` is the width of the first stage, the others have twice and four times that.
    Shapes: [batch, channels, height, width] → [batch, classes]. Initialisation: convolutions Kaiming normal
    (fan-out), fc PyTorch's default.
    Raises UsageError for anything that is not an image of at least 8x8.
    Zhang, Yang, Ye, Hua 2018, LQ-Nets, arXiv:1807.10029 (after Courbariaux et al. 2015, without its two hidden linear layers).
    """

    def __init__(self, input_shape: Sequence[int], classes: int, *, width: int = 128) -> None:
        super().__init__()
        channels, height, columns = image_shape("vgg-small", input_shape)
        if min(height, columns) < 8:
            raise UsageError(f"vgg-small: images of {height}x{columns} are too small for three halvings; use at least 8x8.")
        base = positive("vgg-small", "width", width)
        for number, outputs in enumerate((base, base, 2 * base, 2 * base, 4 * base, 4 * base), start=1):
            conv = nn.Conv2d(channels, outputs, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            self.add_module(f"conv{number}", conv)
            self.add_module(f"bn{number}", nn.BatchNorm2d(outputs))
            self.add_module(f"relu{number}", nn.ReLU())
            channels = outputs
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(channels * (height // 8) * (columns // 8), positive("vgg-small", "classes", classes))

    def forward(self, x: Tensor) -> Tensor:
        for number in range(1, 7):
            x = self.get_submodule(f"conv{number}")(x)
            x = self.get_submodule(f"relu{number}")(self.get_submodule(f"bn{number}")(x))
            if number % 2 == 0:
                x = self.pool(x)
        logits: Tensor = self.fc(x.flatten(1))
        return logits
