"""Floor 2: the only home of SQL and of a database driver.

:func:`open_store` turns a URL into a :class:`~orchestrator.store.unit.Store`; everything above works with that.
"""

from orchestrator.store.unit import EXCLUSIVE, SHARED, Reader, Row, Store, Tx, open_store, the_one

__all__ = ["EXCLUSIVE", "SHARED", "Reader", "Row", "Store", "Tx", "open_store", "the_one"]
