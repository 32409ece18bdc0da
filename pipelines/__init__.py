"""How records move: storage, stages on Beam, the web, decisions and releases."""
