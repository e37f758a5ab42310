"""The dialect of MariaDB and MySQL."""
