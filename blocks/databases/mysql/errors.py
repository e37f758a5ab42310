"""Classifies errors of MariaDB and MySQL: https://mariadb.com/kb/en/mariadb-error-codes/."""

__all__ = ["is_of_sink", "verdict"]

# Too many connections, shutdown, network, lock wait timeout, deadlock, connection killed, lost connection.
_TRANSIENT = {1020, 1040, 1047, 1053, 1158, 1159, 1160, 1161, 1203, 1205, 1213, 1927, 2002, 2003, 2006, 2013, 2055}
# No privilege, a read-only server, a table that is gone, a disk that is full.
_OF_SINK = {3, 28, 1021, 1026, 1036, 1044, 1045, 1114, 1142, 1143, 1146, 1227, 1290, 1836}


def verdict(error: BaseException) -> bool | None:
    """Implement `Dialect.verdict`."""
    if not _is_of_driver(error):
        return None
    code = error.args[0] if error.args else None
    # PyMySQL says InterfaceError(0, "") on a connection that it has closed itself.
    return code in _TRANSIENT or (type(error).__name__ == "InterfaceError" and code == 0)


def is_of_sink(error: BaseException) -> bool:
    """Implement `Dialect.is_of_sink`."""
    return _is_of_driver(error) and bool(error.args) and error.args[0] in _OF_SINK


def _is_of_driver(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in ("pymysql", "MySQLdb")
