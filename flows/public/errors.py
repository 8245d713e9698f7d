"""Every error of ``summarize_parquet``, to be caught by class; the tree is drawn in ``tasks.core.errors``."""

from tasks.core.errors import *  # noqa: F403 - the same classes under a shorter name
