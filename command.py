"""What the programs share on the command line: flags, refusals in one line, Ctrl-C. Only the standard library here, so
that a program can say what is missing before it imports it.
"""

import os
import signal
import sys
from collections.abc import Callable

BAD_INPUT, INTERRUPTED = 2, 130  # exit statuses


def start(*packages: str) -> None:
    """To be called before a program's imports: Ctrl-C then is one line, and so is a package that is missing."""
    signal.signal(signal.SIGINT, lambda *_: leave("interrupted", INTERRUPTED))
    from importlib.machinery import PathFinder  # only now: it takes a while

    missing = [package for package in packages if PathFinder.find_spec(package) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        leave(f"error: {' and '.join(missing)} {verb} missing: pip install -r requirements-run.txt", BAD_INPUT)


def leave(message: str, status: int) -> None:
    """Ends the program at once, wherever it is: nothing that it holds may need putting in order."""
    print(message, file=sys.stderr, flush=True)
    os._exit(status)


def guarded(run: Callable[[list[str]], str], argv: list[str]) -> int:
    """Prints what `run` returns; the exit status. Bad input is one line on stderr and status 2, Ctrl-C one and 130."""
    from ridgepoint.inputs import InputError

    for stream in (sys.stdout, sys.stderr):  # a title that the encoding has no letters for is printed with escapes
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    interrupted = []

    def interrupt(*_):
        interrupted.append(True)
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGINT, interrupt)
    except ValueError:  # not the main thread
        before = None
    try:
        return printed(run, argv)
    except InputError as error:
        if not interrupted:
            print(f"error: {error}", file=sys.stderr)
            return BAD_INPUT
        print("interrupted", file=sys.stderr)
    except BaseException:  # what a library makes of Ctrl-C is not always a KeyboardInterrupt
        if not interrupted:
            raise
        print("interrupted", file=sys.stderr)
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, signal.SIG_IGN if interrupted else before)
    return INTERRUPTED


def printed(run: Callable[[list[str]], str], argv: list[str]) -> int:
    """Prints what `run` returns. Raises InputError where that can't be written."""
    from ridgepoint.inputs import InputError

    text = run(argv)
    if sys.stdout is None:
        raise InputError("can't write the output: it is closed")
    try:
        print(text, flush=True)
    except BrokenPipeError:  # the reader has seen enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        raise InputError(f"can't write the output: {error.strerror}") from error
    return 0
