"""What MariaDB and MySQL do their own way."""
