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
    api_server.py    the server: the page and the API
    answers.py       what the API answers, as its description has it
    guard.py         who may ask the server, and what each answer carries
    worker.py        the judging process, as the server sees it
    judging.py       the judging process, from within
    assets/          the page
"""
