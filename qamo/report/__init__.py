"""Score files and runs as one HTML page, or as tables.

Contract: the page is one file, needs no network and runs no code but its own. Knows nothing of `inference`.

    page.py         the file around the sections; charts
    tables.py       tables as HTML, Markdown, CSV, LaTeX
    sections.py     the sections on score files
    run_section.py  the section on a run folder
    assets/         the page's script and style; uPlot
"""
