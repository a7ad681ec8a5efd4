"""What a program and its fork server say to each other, see `fork_server`."""

import struct

ORDER = struct.Struct("<cq")
ENDED = struct.Struct("<qq")
