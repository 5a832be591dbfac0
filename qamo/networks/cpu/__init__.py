"""XLS-R on a CPU, in fewer and faster steps than transformers takes.

xlsr_pass.py  the forward pass
onednn.py     linear layers through oneDNN, forwards and backwards
malloc.py     freed memory stays with the process
"""
