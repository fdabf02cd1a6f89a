"""What a run will cost in hours, bytes and money, predicted from metadata and a few rows before any of it is spent."""
