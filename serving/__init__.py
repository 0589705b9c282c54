"""How an engine runs a case: its passes, its memory, its host, and how far the answer may be off."""
