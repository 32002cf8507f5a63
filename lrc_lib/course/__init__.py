"""What notebooks and courses use: sessions, figures, explorers, exercises, editions."""
