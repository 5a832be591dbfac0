"""A detector in the forms that other programs read.

Contract: what is exported is read back and compared before the command says that it is done.

    onnx.py        one ONNX file that onnxruntime scores with
    model_card.py  the README.md of an exported folder
"""
