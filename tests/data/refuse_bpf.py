"""Runs a program whose `bpf` calls of one command are refused: refuse_bpf.py COMMAND ERROR PROGRAM [ARGUMENT ...].

COMMAND is a number of enum bpf_cmd (0: create a map, 5: load a program), ERROR a name as in errno.h. A seccomp filter
answers for the kernel; everything else passes."""

import ctypes
import errno
import os
import platform
import struct
import sys

NUMBER = {"x86_64": 321, "aarch64": 280}[platform.machine()]
ALLOW, ERRNO = 0x7FFF0000, 0x00050000


def step(code, true, false, value):
    return struct.pack("<HBBI", code, true, false, value)


command, error = int(sys.argv[1]), getattr(errno, sys.argv[2])
steps = b"".join(
    [
        step(0x20, 0, 0, 0),  # the number of the call
        step(0x15, 0, 3, NUMBER),
        step(0x20, 0, 0, 16),  # the lower half of its first argument
        step(0x15, 0, 1, command),
        step(0x06, 0, 0, ERRNO | error),
        step(0x06, 0, 0, ALLOW),
    ]
)
code = ctypes.create_string_buffer(steps)


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_void_p)]


program = Program(len(steps) // 8, ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
# Without no_new_privs: that takes CAP_SYS_ADMIN, and leaves the program as it would be otherwise.
if libc.prctl(22, 2, ctypes.byref(program)) != 0:
    sys.exit(f"no seccomp filter: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[3], sys.argv[3:])
