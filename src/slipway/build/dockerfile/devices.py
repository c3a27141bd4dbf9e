"""``RUN --device=NAME[,required]``: a name of the Container Device Interface, or a node below /dev."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass

Fail = Callable[[str, str, str], Exception]
_TRUE, _FALSE = ("true", "1", "t"), ("false", "0", "f")


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """``vendor.com/class=name``, ``vendor.com/class`` (any of that class), ``vendor.com/class=*`` or ``/dev/…``.

    A step whose device is not there runs without it, unless it is ``required``.
    """

    name: str
    required: bool = False


def read_device(text: str, fail: Fail) -> DeviceRequest:
    """``fail(message, word, hint)`` makes the error."""
    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise fail(f"the device is not a list of words: {error}", "--device", "separate with ','") from error
    name, required = "", False
    for field in fields:
        key, equals, value = field.partition("=")
        if key.lower() == "required":
            if value.lower() not in (*_TRUE, *_FALSE, ""):
                raise fail(f"required is true or false, not {value[:40]!r}", "--device", "")
            required = value.lower() in _TRUE or not equals
        elif key.lower() == "name" and equals:
            if name:
                raise fail(
                    f"the device has two names: {name[:80]!r} and {value[:80]!r}", "name", "keep one of them"
                )
            name = value
        elif name:
            raise fail(f"a device has no {key[:40]!r}", "--device", "it has name and required")
        else:
            name = field
    if not name or ".." in name.split("/"):
        raise fail("a device needs a name", "--device", "e.g. --device=vendor.com/class=name")
    return DeviceRequest(name, required)
