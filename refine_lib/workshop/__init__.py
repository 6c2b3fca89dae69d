"""How the embedded networks are made and measured. It lies in the clone and is not part of an installed ``refine_lib``."""
