"""The tar format: headers of POSIX ustar and pax, and GNU's long names when reading."""

from slipway.layers.tar.decode import TarReader
from slipway.layers.tar.encode import BLOCK, END, header, padding

__all__ = ["BLOCK", "END", "TarReader", "header", "padding"]
