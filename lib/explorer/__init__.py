"""The tree explorer: a widget, a static figure and a page that step through one search.

Takes a checkpoint and a problem of a task that has a form; gives what is shown, in one set of
words. Knows nothing of experiments or studies.
"""
