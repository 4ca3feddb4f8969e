"""What aiohttp's parser objected to, in our words: its own echo input bytes, and its status is always 400."""

import re
from typing import Final

from aiohttp.http_exceptions import BadHttpMessage, BadHttpMethod, LineTooLong

from proxy.errors import BadRequest, HeadersTooLarge, NotImplementedHere, ProxyError, UriTooLong

MAX_LINE: Final = 8192
MAX_FIELD: Final = 8190
"""Not the same as MAX_LINE: aiohttp's error tells the two apart only by the limit that it names."""
MAX_FIELDS: Final = 128

_SOUND_REQUEST_LINE: Final = re.compile(r"\n  b'[A-Za-z-]{1,32} \S+ HTTP/1\.[01]'\n")
"""In the error's message: nothing is wrong with the line but its method."""


def parser_error(exc: BaseException) -> ProxyError:
    """The error with which to answer a message that the parser refused with `exc`."""
    match exc:
        case LineTooLong() if exc.args[1] == MAX_LINE:
            return UriTooLong("The request target is too long.")
        case LineTooLong():
            return HeadersTooLarge("A header field is too long.")
        case BadHttpMethod() if _SOUND_REQUEST_LINE.search(exc.message):
            return NotImplementedHere("The method is not known here.")
        case BadHttpMessage() if "too many headers" in exc.message.lower():
            return HeadersTooLarge("The request has too many header fields.")
        case _:
            return BadRequest("The request is not valid HTTP/1.1.")
