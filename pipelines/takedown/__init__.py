"""What was taken down for ever: the list, the survey, the erasing, and the releases written
again.
"""
