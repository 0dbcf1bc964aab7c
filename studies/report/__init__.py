"""Pages drawn from results, and studies shown in notebooks.

Takes a manifest and rows; gives the README's short results, a run's page and its figures, and
copies a finished run into the repository. Knows nothing of how a row was measured.
"""
