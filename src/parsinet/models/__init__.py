"""The small model zoo: plain torch modules built by name, and the door for the user's own factories."""

from parsinet.models.gpt import CharGPT
from parsinet.models.lenet import LeNet5Caffe, lenet_300_100
from parsinet.models.lstm import LSTMClassifier
from parsinet.models.mlp import MLP
from parsinet.models.resnet import ResNet, resnet_20, resnet_56, wrn_12, wrn_18, wrn_22
from parsinet.models.vgg import VGGSmall
from parsinet.models.vit import TinyViT
from parsinet.models.zoo import build, names

__all__ = [
    "MLP",
    "CharGPT",
    "LSTMClassifier",
    "LeNet5Caffe",
    "ResNet",
    "TinyViT",
    "VGGSmall",
    "build",
    "lenet_300_100",
    "names",
    "resnet_20",
    "resnet_56",
    "wrn_12",
    "wrn_18",
    "wrn_22",
]
