"""How stages are run: over lanes of parts by Beam, and apart from what a stranger's bytes may
crash.
"""
