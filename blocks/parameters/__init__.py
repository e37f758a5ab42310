"""Parameters that users write: frozen values that check themselves and open nothing."""
