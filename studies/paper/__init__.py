"""The paper's tables and figures, one file each.

Takes an experiment; gives the rows, figures and sentences of that table or figure. Knows nothing
of the other studies but for searches that two of them share.
"""
