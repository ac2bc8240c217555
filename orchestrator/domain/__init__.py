"""Floor 1: the rules as data and pure functions. No I/O, no database, no processes, standard library only."""
