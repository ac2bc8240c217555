"""Floor 3: the use cases, one function each, over the store alone. :data:`context.CATALOGUE` names them all."""
