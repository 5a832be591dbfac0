"""Speech quality: predicted mean opinion scores (MOS).

Contract: a MOS is a float on the scale 1 to 5. A predictor is a callable: n waves (T,) at 16 kHz -> MOS (n,).
Imports the ground, `audio`, `trials` and `networks`.

    classes.py     MOS to quality class, and what augmentation does to it
    predictors.py  DistillMOS, SCOREQ, any ONNX model
    cache.py       predictions kept by content: of many files, and of augmented speech during training
    probe.py       MOS of some utterances before and after augmentation, kept in a run
    agreement.py   two sets of MOS compared
"""
