"""Arguments and results to JSON text and back; the same bytes in every store.

text.py     bounds on stored text; the standard library's encoder and decoder, set up once
refused.py  how a refusal finds its path (`args[2].user.name`) on the way out
tags.py     what JSON lacks: {"$jc": ["uuid", "…"]}
writer.py   checks a value and makes it plain
shapes.py   annotations that turn plain JSON back into the user's classes
calls.py    the same for all parameters of a job function
codec.py    Codec: the one that others use
"""

from jobcard.core.codec.annotations import shape_of
from jobcard.core.codec.calls import CallShape
from jobcard.core.codec.codec import Codec
from jobcard.core.codec.shapes import Shape
from jobcard.core.codec.text import MAX_DEPTH, MAX_DIGITS, MAX_TEXT

__all__ = ["MAX_DEPTH", "MAX_DIGITS", "MAX_TEXT", "CallShape", "Codec", "Shape", "shape_of"]
