"""A run: its processes, its folder, its loop, its checkpoints.

Contract: a run is a folder. Every draw is a function of (seed, epoch, index), so that an interrupted run, resumed by
the same command, ends with the same bytes. Imports the ground, `config`, `networks` and `eval_metrics`.

    device.py      kind and number of devices, precision and scoring batch of a machine
    launch.py      join the processes of a job; a lost one is a sentence
    peers.py       whether they want the same and are there; the end of one that waits
    folder.py      RunFolder: what a run's files are called, which training it holds, its lock
    loop.py        the training loop, the best epochs
    schedule.py    learning rates over the steps
    step_log.py    losses and counts of steps, read from a GPU one step late
    compiling.py   XLS-R's steps through torch.compile
    cuda_graph.py  a training step, or a scored batch, recorded on a GPU and launched as one
    state.py       what a resume needs, written and read
    gather.py      features with gradients, rows and flags of all processes
    loader.py      recordings read ahead by processes or threads
    checkpoint.py  our checkpoint format; averages; exported folders
    precision.py   32, tf32, bf16-mixed and 16-mixed, named and set; who has them
    signals.py     SIGTERM and Ctrl-C as a flag that long loops check
    epoch_log.py   an epoch as a line, warnings, numbers for the loggers
    loggers.py     TensorBoard, metrics.jsonl, Weights & Biases
    provenance.py  code, packages, machine and pretrained weights of a run
"""
