"""What the programs share on the command line: flags, refusals in one line, Ctrl-C. Only the standard library here, so
that a program can say what is missing before it imports it.
"""

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterable

VERSION = "0.11.0"  # of the package
BAD_INPUT, INTERRUPTED = 2, 130  # exit statuses


def start(*packages: str) -> None:
    """To be called before a program's imports: Ctrl-C then is one line, and so is a package that is missing."""
    gc.disable()  # while modules load: what they make stays (`guarded` enables it again)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no product of matrices here: its threads would only spin
    signal.signal(signal.SIGINT, lambda *_: leave("interrupted", INTERRUPTED))
    from importlib.machinery import PathFinder  # only now: it takes a while

    missing = [package for package in packages if PathFinder.find_spec(package) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        leave(f"error: {' and '.join(missing)} {verb} missing: {to_install('run', 'pictures')}", BAD_INPUT)


def to_install(requirements: str, extra: str) -> str:
    """The command that installs what is missing: by the file requirements-... of a checkout, or the package's extra.
    >>> to_install("run", "pictures")
    'pip install -r requirements-run.txt'
    """
    checkout = os.path.exists(os.path.join(os.path.dirname(__file__), f"requirements-{requirements}.txt"))
    return f"pip install -r requirements-{requirements}.txt" if checkout else f"pip install 'ridgepoint[{extra}]'"


def leave(message: str, status: int) -> None:
    """Ends the program at once, wherever it is: nothing that it holds may need putting in order."""
    if status == BAD_INPUT:
        told(message.removeprefix("error: "), sys.argv[1:])
    print(message, file=sys.stderr, flush=True)
    os._exit(status)


def told(message: str, argv: list[str]) -> None:
    """An error as an object too, where the answer was to be one."""
    if "--json" in argv and sys.stdout is not None:
        import json

        with contextlib.suppress(OSError):
            written(json.dumps({"error": message}))


def guarded(run: Callable[[list[str]], str], argv: list[str]) -> int:
    """Prints what `run` returns; the exit status. Bad input is one line on stderr and status 2, Ctrl-C one and 130."""
    from ridgepoint.inputs import InputError

    for stream in (sys.stdout, sys.stderr):  # a title that the encoding has no letters for is printed with escapes
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    gc.enable()
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
            told(str(error), argv)
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
        written(text)
    except BrokenPipeError:  # the reader has seen enough, as `| head` does
        pass
    except OSError as error:
        raise InputError(f"can't write the output: {error.strerror}") from error
    return 0


def written(text: str) -> None:
    """Prints. Raises OSError, and what is left then goes nowhere: or Python would try again as it ends."""
    try:
        print(text, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def progress(steps: Iterable, what: str, total: int | None = None) -> Iterable:
    """`steps`, with a bar on stderr once they have taken two seconds: in a terminal alone, and if tqdm is there."""
    if sys.stderr is None or not sys.stderr.isatty():
        return steps
    try:
        from tqdm import tqdm
    except ImportError:
        return steps
    return tqdm(steps, desc=what, total=total, delay=2.0, leave=False, file=sys.stderr, dynamic_ncols=True)
