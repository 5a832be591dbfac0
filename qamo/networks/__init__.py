"""Front ends and back ends, and the files whose weights they can read.

Contract:

    front end   (B, T) -> (B, F, D)    attributes dim, frozen, mixed
    back end    (B, F, D) -> (B, E)    attribute dim

B utterances, T samples at 16 kHz, F frames, D features, E embedding. A part takes plain keyword arguments, one for each
key of its config section, and draws from PyTorch's generator only while it is built. Files of weights are read without
running what they hold. Imports the ground, `config` and `audio`.

    xlsr.py           XLS-R (wav2vec 2.0) and LFCC front ends
    distillmos.py     DistillMOS as a front end and as a quality predictor
    conformer_tcm.py  Conformer with temporal-channel modelling
    nes2net.py        Nes2Net-X
    weights.py        reading files of weights safely and loading them strictly
    published.py      weights of fairseq, transformers and the published code, in our names and back
    feature_cache.py  features of a frozen front end, kept on disk
    cpu/              XLS-R's forward pass arranged for CPUs
"""
