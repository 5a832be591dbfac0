"""Speech quality: predicted mean opinion scores (MOS).

Contract: a MOS is a float on the scale 1 to 5. A predictor is a callable: waves (B, T) -> MOS (B,).
Imports the ground, `audio`, `trials` and `networks`.

    classes.py        MOS to quality class, and what augmentation does to it
    predictors.py     DistillMOS, SCOREQ, any ONNX model; predictions of many files, kept by content
    augmented_mos.py  MOS of augmented speech while training waits for it
"""
