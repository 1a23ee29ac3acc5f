"""Write the part of rk.h between its two cffi markers to a file of its own: cdef.py RK_H OUTPUT."""

import sys
from pathlib import Path

source = Path(sys.argv[1]).read_text(encoding="ascii")
begin, end = "/* cffi: begin */", "/* cffi: end */"
if source.count(begin) != 1 or source.count(end) != 1:
    sys.exit(f"{sys.argv[1]}: need exactly one {begin!r} and one {end!r}")
Path(sys.argv[2]).write_text(source.split(begin)[1].split(end)[0], encoding="ascii")
