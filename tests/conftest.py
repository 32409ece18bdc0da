"""Settings of all tests."""

from hypothesis import settings

settings.register_profile("winnow", deadline=None)  # how long an example takes says what else the machine does
settings.load_profile("winnow")
