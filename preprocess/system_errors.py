"""What the operating system refused, as one line: where, why, and the remedy."""

import errno

_REMEDIES = {
    errno.ENOSPC: "make room there, or choose another location",
    errno.EDQUOT: "make room there, or choose another location",
    errno.EFBIG: "allow larger files (ulimit -f), or choose another location",
    errno.EROFS: "choose a location that can be written",
    errno.EACCES: "check the permissions, or choose another location",
    errno.EPERM: "check the permissions, or choose another location",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "allow more open files on this machine",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "check the path",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "check the links in the path",
    errno.ENOMEM: "free memory, or ask for less at once",
    errno.EIO: "check the disk",
}


def remedy_of(error: OSError) -> str:
    """What helps against it; empty where that is not known."""
    return _REMEDIES.get(error.errno or 0, "")


def describe(error: OSError) -> str:
    """Where, what was refused, and the remedy, for example `/data/x: no space left on device; make room there`."""
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    where = "" if error.filename is None else f"{error.filename}: "
    remedy = remedy_of(error)
    return f"{where}{reason}; {remedy}" if remedy else f"{where}{reason}"
