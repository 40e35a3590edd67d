"""Static files of the status page."""
