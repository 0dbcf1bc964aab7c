"""Questions that the paper does not ask, one file each.

Takes an experiment; gives rows, figures and sentences: the audit of the published code, equal
compute, where searches are lost, the larger model. Knows nothing of pages.
"""
