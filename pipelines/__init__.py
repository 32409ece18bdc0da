"""How records move: storage, stages on Beam, the web, decisions and releases."""

import logging

# Beam says at every import that it lacks Google's clients, which nobody asked for
logging.getLogger().addFilter(lambda record: "apitools" not in record.getMessage())
