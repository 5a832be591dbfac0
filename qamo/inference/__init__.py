"""One recording in, one judgement out.

Contract: a scorer is a callable, waves (B, W) -> scores (B,), both NumPy, whether the detector is a checkpoint or an
ONNX file. Knows nothing of `report`. Imports PyTorch only where a PyTorch detector is opened.

    api.py           open_judge, for programs
    scorer.py        any detector as a scorer
    scorer_torch.py  through PyTorch
    scorer_onnx.py   through onnxruntime
    recording.py     files found and read
    judge.py         windows, aggregate, verdict, warnings
    show.py          a judgement as table, JSON, CSV
    timeline.py      score over time as a picture
    flags.py         the flags that inference.py and serve.py share
    web.py           the page's server
    assets/          the page
"""
