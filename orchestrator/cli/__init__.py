"""Floor 7: the command ``maf``. One file a group of commands, loaded when it is called."""
