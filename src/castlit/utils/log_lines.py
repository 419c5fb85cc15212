"""Lines about a long run's progress: for the files of the log, and for the console where nothing shows the same."""

import logging


def log_line(logger: logging.Logger, line: str, console: bool = True, level: int = logging.INFO) -> None:
    """Log a line; print it where no logging is set up, as in a script or a notebook.

    Args:
        logger: The module's.
        line: The text.
        console: False: only to files, as a bar shows the same on the terminal, which a line would break.
        level: The line's level.
    """
    root = logging.getLogger()
    if console and root.handlers:
        logger.log(level, "%s", line)
    elif console:
        print(line)
    elif logger.isEnabledFor(level):
        record = logger.makeRecord(logger.name, level, "", 0, "%s", (line,), None)
        for handler in root.handlers:
            if isinstance(handler, logging.FileHandler) and level >= handler.level:
                handler.handle(record)


def say(logger: logging.Logger, line: str) -> None:
    """Print a line, and log it to files.

    Args:
        logger: The module's.
        line: The text.
    """
    print(line)
    log_line(logger, line, console=False)
