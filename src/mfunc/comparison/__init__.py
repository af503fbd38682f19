"""What padding costs: one model and the same rows in several layouts, measured beside each other.

settings    what is compared, as plain data
layouts     rows -> batches, in each layout
measure     some steps of training in one layout
report      all of them, each in a process of its own: a table and a figure
"""

from mfunc.comparison.report import compare
from mfunc.comparison.settings import LAYOUTS, Settings

__all__ = ["LAYOUTS", "Settings", "compare"]
