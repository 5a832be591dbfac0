"""A recording becomes a wave, and what can be said of a wave or done to it.

Contract: a wave is a one-dimensional float32 NumPy array at 16 kHz, mono, nominally in [-1, 1]. What cannot be read is
an `InputError` with the file's name. Imports the ground and no PyTorch.

    load.py         a file or bytes as a wave: the one reader of all commands
    containers.py   what kind of file it is, and where in it the sound really is
    flac.py         where a FLAC stream really ends
    sndfile.py      decoding by libsndfile
    ffmpeg.py       decoding by FFmpeg, which sees nothing but the given bytes
    mixing.py       decoded blocks of any rate and channels become waves at 16 kHz
    diagnostics.py  duration, level, bandwidth, clipping, speech, channels; the warnings drawn from them
    windows.py      long recordings as windows
    not_speech.py   tones, noise and music told from speech
    rawboost.py     RawBoost augmentation
    codecs.py       codec round trips in memory
    channel.py      a room, noise, a band, a codec, lost packets
    augmentation.py RawBoost and the channel, by (seed, epoch, index)
"""

SAMPLE_RATE = 16_000  # Hz; the rate of every corpus of the field and of every front end here
WINDOW_SAMPLES = 66_800  # 4.175 s, the window of the paper: 208 XLS-R frames
