"""A recording becomes a wave, and what can be said of a wave or done to it.

Contract: a wave is a one-dimensional float32 NumPy array at 16 kHz, mono, nominally in [-1, 1]. What cannot be read is
an `InputError` with the file's name. Imports the ground and no PyTorch.

    load.py         a file as a wave
    decoding.py     bytes and containers that libsndfile does not read
    windows.py      long recordings as windows
    diagnostics.py  duration, level, bandwidth, clipping, speech; the warnings drawn from them
    not_speech.py   tones, noise and music told from speech
    rawboost.py     RawBoost augmentation
"""
