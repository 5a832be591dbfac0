"""A detector in the forms that other programs read.

Contract: what is exported is read back and compared before the command says that it is done.

    folder.py      a folder of safetensors and JSON; the published code's file; XLS-R as a transformers folder
    model_card.py  the README.md of an exported folder, from card.md.j2
    onnx.py        one ONNX file that onnxruntime scores with
"""
