"""What shell completion offers, listed here so that pressing TAB does not import torch; a test compares with the library."""

DATA = ("digits", "mnist", "fashion-mnist", "cifar10")
METHODS = ("dense", "gates", "spectral", "spectral-sparse", "sphere")
BASELINES = (
    "gmp", "group-lasso", "l0", "magnitude-units", "normal-jeffreys", "random-mask", "random-units", "rigl", "sbp", "set", "slimming",
    "snip", "spike-slab", "vib",
)  # fmt: skip
MODELS = (
    "char-gpt",
    "lenet-300-100",
    "lenet-5-caffe",
    "lstm",
    "mlp",
    "resnet-20",
    "resnet-56",
    "tiny-vit",
    "vgg-small",
    "wrn-12",
    "wrn-18",
    "wrn-22",
)
EXPORTS = ("onnx", "torch-export", "safetensors", "csr", "bundle")
SUITES = ("quick", "mnist-units", "mnist-weights", "cifar", "text")
OPTIMIZERS = ("sgd", "adam", "adamw", "lpsgd")
LOGGERS = ("tensorboard", "mlflow", "wandb", "trackio")


def beginning(known: tuple[str, ...], typed: str) -> list[str]:
    """Those of `known` that begin with what was typed."""
    return [name for name in known if name.startswith(typed)]
