"""Classifies errors of MariaDB and MySQL: https://mariadb.com/kb/en/mariadb-error-codes/."""

import re

from prefect_batch.blocks.error_facts import Blame

# Too many connections, no new thread, shutdown, lock wait timeout, deadlock, connection or statement killed.
_PASSING = {1020, 1040, 1047, 1053, 1135, 1203, 1205, 1213, 1317, 1927}
# The network, or a lost connection.
_LOST = {1158, 1159, 1160, 1161, 2002, 2003, 2006, 2013, 2055}
# Out of memory, too large a packet, too many locks, a statement that takes too long.
_SIZE = {5, 1037, 1038, 1041, 1153, 1206, 1969, 3024}
# No privilege, a read-only server, a table that is gone, a disk that is full.
_OF_SINK = {3, 28, 1021, 1026, 1036, 1044, 1045, 1114, 1142, 1143, 1146, 1227, 1290, 1836}


# Out of range, too long, not of the column's type or character set.
_OF_VALUE = {1264, 1265, 1292, 1366, 1406}


def refused_column(error: object) -> str | None:
    """Return the column whose value the database refuses with this error, or None if it refuses something else."""
    code, message = [*getattr(error, "args", ()), None, None][:2]
    found = re.search(r"column ['`](?:[^'`]*`\.`)*([^'`]+)['`] at row", str(message)) if code in _OF_VALUE else None
    return found and found[1]


def blame(error: BaseException) -> Blame | None:
    """Implement `Dialect.blame`."""
    if type(error).__module__.partition(".")[0] not in ("pymysql", "MySQLdb"):
        return None
    code = error.args[0] if error.args else None
    # PyMySQL says InterfaceError(0, "") on a connection that it has closed itself.
    if code in _PASSING | _LOST or (type(error).__name__ == "InterfaceError" and code == 0):
        return Blame.PASSING
    if code in _SIZE:
        return Blame.SIZE
    return Blame.END if code in _OF_SINK else Blame.RECORD
