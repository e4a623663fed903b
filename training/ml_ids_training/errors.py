"""Owns the exit codes of the command and the exceptions that lead to them."""

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INPUT = 3


class TrainingFailed(Exception):
    """The work was understood and possible to start, yet has no good result."""

    exit_code = EXIT_FAILED


class WrongUsage(Exception):
    """What was asked for does not fit the data or cannot be meant."""

    exit_code = EXIT_USAGE


class UnreadableInput(Exception):
    """A file cannot be opened or is not what its name or header promises."""

    exit_code = EXIT_INPUT
