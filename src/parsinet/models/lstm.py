"""A recurrent classifier: an LSTM reads the rows of an image, or any sequence of feature vectors, and its last state is classified."""

from collections.abc import Sequence

from torch import Tensor, nn

from parsinet.errors import UsageError
from parsinet.models.checks import any_shape, positive


class LSTMClassifier(nn.Module):
    """`lstm` over the sequence, `fc` on the hidden state after the last step.

    Shapes: sequences [batch, steps, features] or images [batch, channels, height, width] → [batch, classes]. An image is read row by row
    from the top, one step per row, with channels · width features. The number of steps may vary, the features may not.
    `hidden` units in each of `layers` layers. Initialisation: PyTorch's default.
    Raises UsageError for an input shape that is neither (steps, features) nor (channels, height, width).
    Hochreiter, Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735.
    """

    def __init__(self, input_shape: Sequence[int], classes: int, *, hidden: int = 128, layers: int = 1) -> None:
        super().__init__()
        shape = any_shape("lstm", input_shape)
        if len(shape) not in (2, 3):
            raise UsageError(f"lstm: takes sequences (steps, features) or images (channels, height, width), input_shape is {shape}.")
        features = shape[1] if len(shape) == 2 else shape[0] * shape[2]
        units = positive("lstm", "hidden", hidden)
        self.lstm = nn.LSTM(features, units, positive("lstm", "layers", layers), batch_first=True)
        self.fc = nn.Linear(units, positive("lstm", "classes", classes))

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 4:
            x = x.transpose(1, 2).flatten(2)
        states, _ = self.lstm(x)
        logits: Tensor = self.fc(states[:, -1])
        return logits
