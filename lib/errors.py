"""The one exception for mistakes that a user can mend: bad profiles, files, tasks."""


class UserError(Exception):
    """A mistake in what was given; one line says what, where, and what would be right."""
