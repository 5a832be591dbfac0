"""Score files and runs as one HTML page, and as tables in CSV, Markdown and LaTeX.

Contract: the same input gives the same bytes; the page opens from the disk, needs no network and escapes every name.
A section is a file with a function that takes the `Subject` (or the `RunRecord`) and returns a `Section`.

    subject.py        the set that is reported on: systems, keys, factors, intervals
    run_record.py     what a run folder says of its training
    charts.py         charts as values, and the JSON that assets/report.js draws
    tables.py         tables as values, and as CSV, Markdown and LaTeX
    page.py           the page around them: page.html.j2, parts.html.j2 and assets/
    rates.py          section: pooled rates, DET curves, differences between systems; which of two is ahead
    scores.py         section: histograms of the scores
    over_sets.py      section: systems by sets, over seeds
    conditions.py     sections: results by the columns of the key, and by speaker
    quality.py        section: results by MOS
    arena.py          folders of results and the submission of the Speech Anti-Spoofing Arena
    calibrated.py     section: log-likelihood ratios fitted on dev scores, their costs, fusion of systems
    figures.py        figures for papers by matplotlib
    errors.py         section: the worst errors, with their recordings
    training.py       section: curves of a run, its results and settings
    augmented.py      chart and table of MOS before and after augmentation
    embeddings.py     charts of a run's embeddings of recordings
    centroids.py      the figure of a run's centroids
"""
