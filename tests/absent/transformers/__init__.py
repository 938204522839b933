"""Stands in front of transformers in the processes that tests start: nobody who installs gaptune alone has it.

clip_benchmark brings it for the tests, and open_clip imports what is there: two seconds in each of their processes.
"""

raise ImportError("absent, as where gaptune is installed without what its tests need")
