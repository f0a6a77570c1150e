"""Errors that are shown to the user as one sentence, without a traceback."""


class GenbenchError(Exception):
    """A mistake in the user's input or surroundings: exit code 2 and one line on the screen."""


class SuiteError(GenbenchError):
    """A suite that cannot be run as written: file, line, key, what was found, what is allowed.

    problem: the message without file, line and key.
    """

    problem = ""


class ModelError(GenbenchError):
    """A model that cannot be found, built or loaded for this data."""


class CodeError(ModelError):
    """Code of a user's that ended its process, or raised what ends a program, such as SystemExit."""


class DataError(GenbenchError):
    """A dataset or a file of images that is missing or is not what it should be."""


class StoreError(GenbenchError):
    """An artefact or an output folder that cannot be read or written."""


class CellFailure(Exception):  # noqa: N818 - an outcome that is recorded, not an error of the program
    """A cell that failed while running (NaN loss, out of memory, an exception); becomes a record, not an exit."""


class Undefined(CellFailure):
    """A number that these sets of images do not define: its record is n/a, with the reason."""


class TooFewSamples(Undefined):
    """A number that so few samples cannot give: it does not apply, and says what it would need."""


class Degenerate(Undefined):
    """A number that says nothing for sets like these: all images alike, balls of radius 0, a single class."""


class ProcessDied(CellFailure):
    """A process that computed a cell together with others has died; another attempt may succeed."""


class Stopped(BaseException):
    """A worker was told to stop (SIGTERM) and has written what it can continue from; no failure of its cell."""


class Terminated(BaseException):
    """The program was told to stop (SIGTERM): exit code 143."""
