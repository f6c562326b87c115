"""The network that is pretrained: ResNet-18 with a projector, its weights, its features."""
