"""`make bench`: this machine's speeds, each beside its plain counterpart.

Takes a profile or a checkpoint; prints rates and ratios. Nothing in lib/ imports it.
"""
