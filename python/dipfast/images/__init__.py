"""Images: layout, dtype and value range; masks; files."""
