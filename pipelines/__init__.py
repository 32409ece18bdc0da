"""How records move: storage, stages on Beam, the web, decisions and releases."""

import logging

# Beam says at every import that it lacks Google's clients, which nobody asked for; and what fails
# in a stage is said by the stage
logging.getLogger().addFilter(lambda record: "apitools" not in record.getMessage())
logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
