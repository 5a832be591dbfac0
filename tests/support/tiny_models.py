"""Sizes of networks that are small enough for tests."""

XLSR = {
    "weights": None,
    "hidden_size": 48,
    "n_layers": 2,
    "n_heads": 4,
    "ffn_size": 80,
    "conv_size": 24,
    "position_kernel": 16,
    "position_groups": 4,
}
