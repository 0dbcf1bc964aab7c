"""What everything stands on: errors, files written whole, checked settings, processes.

Takes paths, values and environment variables; gives one clear error each where they cannot be
used. Knows nothing of tasks, models or runs.
"""
