"""One recording in, one judgement out.

Contract: a scorer is a callable, waves (B, W) -> scores (B,), both NumPy, whether the detector is a checkpoint or an
ONNX file. Knows nothing of `report`. Imports PyTorch only where a PyTorch detector is opened.

    scorer.py    any detector as a scorer
    judge.py     windows, aggregate, verdict, warnings
    timeline.py  score over time as a picture
    assets/      the page of serve.py
"""
