"""Profiles: everything that a run can vary, as frozen values.

Takes a TOML file; gives settings, recipes and searches (SearchSpec), each checked on its own and
together. Imports no torch. Knows nothing of what a setting does.
"""
