"""Front ends and back ends, and the files whose weights they can read.

Contract (as types in `contract.py`):

    front end   (B, T) -> (B, F, D)    attributes dim, frozen, mixed
    back end    (B, F, D) -> (B, E)    attribute dim

B utterances, T samples at 16 kHz, F frames, D features, E embedding. A part is an nn.Module. It takes plain keyword
arguments, one for each key of its config section, and draws from PyTorch's generator only while it is built. Files of
weights are read without running what they hold. Imports the ground, `config` and `audio`.

    contract.py       front end, back end, head and detector as types
    xlsr.py           XLS-R (wav2vec 2.0) as a front end
    xlsr_files.py     where XLS-R's weights come from, and their names in fairseq and transformers
    xlsr_recipe.py    what such a file says of its network: followed, or refused
    layers.py         which layers of an encoder a front end gives
    asp.py            attentive statistics pooling
    mean.py           the mean over time
    hf.py             speech encoders of Hugging Face's transformers as front ends
    hf_inputs.py      what such an encoder is given of waves
    lfcc.py           LFCC front end
    distillmos.py     DistillMOS as a front end and as a quality predictor
    conformer_tcm.py  Conformer with temporal-channel modelling
    nes2net.py        Nes2Net-X
    weights.py        reading files of weights safely and loading them strictly
    digests.py        whether a file of weights still holds what was written
    published.py      detectors of the published code and others, read and written
    feature_cache.py  features of a frozen front end, kept on disk
    gpu_pass.py       XLS-R's forward pass arranged for GPUs
    cpu/              and for CPUs
"""
