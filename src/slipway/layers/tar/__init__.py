"""The tar format: headers of POSIX ustar and pax, and GNU's long names and large numbers when reading."""

from slipway.layers.tar.decode import Readable, TarReader
from slipway.layers.tar.encode import BLOCK, END, header, padding

__all__ = ["BLOCK", "END", "Readable", "TarReader", "header", "padding"]
