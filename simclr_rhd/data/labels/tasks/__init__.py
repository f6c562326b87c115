"""The tasks: their known terms, the flag that names them, the classes in the cells of their columns."""
